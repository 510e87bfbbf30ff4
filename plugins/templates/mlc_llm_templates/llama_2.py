"""Llama-2-chat, with the names and values of MLC LLM's template."""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "llama-2",
    "system_template": "[INST] <<SYS>>\n{system_message}\n<</SYS>>\n\n",
    "system_message": "You are a helpful, respectful and honest assistant.",
    "add_bos": True,
    "add_role_after_system_message": False,
    "roles": {"user": "<s>[INST]", "assistant": "[/INST]", "tool": "[INST]"},
    "seps": [" ", " </s>"],
    "role_content_sep": " ",
    "role_empty_sep": " ",
    "stop_str": ["[INST]"],
    "stop_token_ids": [2],
}
