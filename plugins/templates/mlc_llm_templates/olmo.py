"""OLMo's instruction models.

Mended: only an answer ends with ``<|endoftext|>``, in both versions, and a system message has its
mark in both. OLMo begins with ``<|endoftext|>``, which its tokenizer does not call BOS.
"""

from __future__ import annotations

from typing import Any

OLMO: dict[str, Any] = {
    "name": "olmo",
    "system_template": "<|system|>\n{system_message}\n",
    "system_message": "",
    "system_optional": True,
    # <|endoftext|>
    "system_prefix_token_ids": [50279],
    "roles": {"user": "<|user|>", "assistant": "<|assistant|>"},
    "seps": ["\n", "<|endoftext|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": [],
    # <|endoftext|>
    "stop_token_ids": [50279],
}

OLMO2: dict[str, Any] = {
    **OLMO,
    "name": "olmo2",
    "system_prefix_token_ids": None,
    "add_bos": True,
    "stop_str": ["<|endoftext|>"],
    # <|endoftext|>
    "stop_token_ids": [100257],
}
