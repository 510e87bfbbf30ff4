"""Microsoft's Phi models.

The line ends after Phi-3's special tokens are not tokens: they are added with ``rstrip``, so the
tokenizer takes the white space that follows them.

Mended: ``<|end|>`` ends the system message of Phi-3; ``phi-4`` is Phi-4's own layout. What MLC
calls so is ``phi-4-mini`` here, without its line ends and without a second ``<|system|>``.
"""

from __future__ import annotations

from typing import Any

_DIGITAL = (
    "You are a helpful digital assistant. Please provide safe, "
    "ethical and accurate information to the user."
)

PHI_2: dict[str, Any] = {
    "name": "phi-2",
    "system_template": "{system_message}",
    "system_message": "",
    "roles": {"user": "Instruct", "assistant": "Output"},
    "seps": ["\n"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["<|endoftext|>"],
    "stop_token_ids": [50256],
}

PHI_3: dict[str, Any] = {
    "name": "phi-3",
    "system_template": "<|system|>\n{system_message}<|end|>\n",
    "system_message": _DIGITAL,
    "system_optional": True,
    "add_bos": True,
    "roles": {"user": "<|user|>", "assistant": "<|assistant|>"},
    "seps": ["<|end|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<|endoftext|>"],
    # </s>, <|endoftext|>, <|assistant|>, <|end|>
    "stop_token_ids": [2, 32000, 32001, 32007],
}

PHI_3_VISION = {**PHI_3, "name": "phi-3-vision", "system_message": ""}

PHI_4_MINI: dict[str, Any] = {
    "name": "phi-4-mini",
    "system_template": "<|system|>{system_message}<|end|>",
    "system_message": _DIGITAL,
    "system_optional": True,
    "roles": PHI_3["roles"],
    "seps": ["<|end|>"],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": ["<|endoftext|>", "<|end|>"],
    # <|endoftext|>, <|end|>
    "stop_token_ids": [199999, 200020],
}

PHI_4: dict[str, Any] = {
    "name": "phi-4",
    "system_template": "<|im_start|>system<|im_sep|>{system_message}<|im_end|>",
    "system_message": _DIGITAL,
    "system_optional": True,
    "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
    "seps": ["<|im_end|>"],
    "role_content_sep": "<|im_sep|>",
    "role_empty_sep": "<|im_sep|>",
    "stop_str": ["<|endoftext|>", "<|im_end|>"],
    # <|endoftext|>, <|im_end|>
    "stop_token_ids": [100257, 100265],
}
