"""LM: the prompt as it is, with MLC LLM's values. No system message, no memory of earlier calls."""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "LM",
    "system_template": "",
    "system_message": "",
    "add_bos": True,
    "roles": {"user": "", "assistant": ""},
    "seps": [""],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": [],
    "stop_token_ids": [2],
    "has_memory": False,
}
