"""Meta's Llama models, and CodeLlama.

Mended: ``llama-2`` and ``codellama_instruct`` have no space after the last ``[/INST]``;
``codellama_instruct`` is Llama-2's layout, as in its own template; ``llama-4`` has a place for a
system message.
"""

from __future__ import annotations

from typing import Any

_HELPFUL = "You are a helpful, respectful and honest assistant."

LLAMA_2: dict[str, Any] = {
    "name": "llama-2",
    "system_template": "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
    "system_message": _HELPFUL,
    "system_optional": True,
    "add_bos": True,
    "add_role_after_system_message": False,
    "roles": {"user": "<s>[INST]", "assistant": "[/INST]", "tool": "[INST]"},
    "seps": [" ", " </s>"],
    "role_content_sep": " ",
    "role_empty_sep": "",
    "stop_str": ["[INST]"],
    "stop_token_ids": [2],
}

CODELLAMA_INSTRUCT: dict[str, Any] = {
    **LLAMA_2,
    "name": "codellama_instruct",
    "system_message": "",
    "roles": {"user": "<s>[INST]", "assistant": "[/INST]"},
    "stop_str": ["</s>"],
}

LLAMA_3: dict[str, Any] = {
    "name": "llama-3",
    "system_template": "<|start_header_id|>system<|end_header_id|>\n\n{system_message}<|eot_id|>",
    "system_message": _HELPFUL,
    "system_optional": True,
    "add_bos": True,
    "roles": {
        "user": "<|start_header_id|>user",
        "assistant": "<|start_header_id|>assistant",
    },
    "seps": ["<|eot_id|>"],
    "role_content_sep": "<|end_header_id|>\n\n",
    "role_empty_sep": "<|end_header_id|>\n\n",
    "stop_str": ["<|end_of_text|>", "<|eot_id|>"],
    # <|end_of_text|>, <|eot_id|>
    "stop_token_ids": [128001, 128009],
}

LLAMA_3_1: dict[str, Any] = {
    **LLAMA_3,
    "name": "llama-3_1",
    "roles": {**LLAMA_3["roles"], "tool": "<|start_header_id|>ipython"},
    "stop_str": [],
    # <|end_of_text|>, <|eom_id|>, <|eot_id|>
    "stop_token_ids": [128001, 128008, 128009],
}

LLAMA_4: dict[str, Any] = {
    "name": "llama-4",
    "system_template": "<|header_start|>system<|header_end|>\n\n{system_message}<|eot|>",
    "system_message": "",
    "system_optional": True,
    "add_bos": True,
    "roles": {
        "user": "<|header_start|>user",
        "assistant": "<|header_start|>assistant",
        "tool": "<|header_start|>ipython",
    },
    "seps": ["<|eot|>"],
    "role_content_sep": "<|header_end|>\n\n",
    "role_empty_sep": "<|header_end|>\n\n",
    "stop_str": [],
    # <|end_of_text|>, <|eom|>, <|eot|>
    "stop_token_ids": [200001, 200007, 200008],
}
