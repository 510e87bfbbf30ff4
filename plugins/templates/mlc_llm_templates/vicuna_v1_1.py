"""Vicuna v1.1 and later, with the name and the prompt of MLC LLM's template.

MLC has it in its older form only, where the first separator follows the system message, too; here
that space is a part of ``system_template``. Same prompt as FastChat's.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "vicuna_v1.1",
    "system_template": "{system_message} ",
    "system_message": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
    "add_bos": True,
    "roles": {"user": "USER", "assistant": "ASSISTANT"},
    "seps": [" ", "</s>"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}
