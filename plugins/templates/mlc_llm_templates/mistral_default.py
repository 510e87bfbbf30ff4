"""Mistral-Instruct, with the names and values of MLC LLM's template."""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "mistral_default",
    "system_template": "[INST] {system_message}",
    "system_message": (
        "Always assist with care, respect, and truth. Respond with utmost utility yet securely. "
        "Avoid harmful, unethical, prejudiced, or negative content. "
        "Ensure replies promote fairness and positivity."
    ),
    "add_bos": True,
    "add_role_after_system_message": False,
    "roles": {"user": "[INST]", "assistant": "[/INST]", "tool": "[INST]"},
    "seps": [" "],
    "role_content_sep": " ",
    "role_empty_sep": "",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}
