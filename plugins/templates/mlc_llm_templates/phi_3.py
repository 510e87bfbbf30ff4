"""Phi-3 and Phi-3.5, with the names and values of MLC LLM's template.

Nothing ends the system message, where the official template has ``<|end|>`` and a line end. The
line ends after the models' special tokens are not tokens: they are added with ``rstrip``, so the
tokenizer takes the white space that follows them.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "phi-3",
    "system_template": "<|system|>\n{system_message}",
    "system_message": (
        "You are a helpful digital assistant. Please provide safe, "
        "ethical and accurate information to the user."
    ),
    "add_bos": True,
    "roles": {"user": "<|user|>", "assistant": "<|assistant|>"},
    "seps": ["<|end|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<|endoftext|>"],
    # </s>, <|endoftext|>, <|assistant|>, <|end|>
    "stop_token_ids": [2, 32000, 32001, 32007],
}
