"""Vicuna, and LLaVA, which was made of it.

MLC has ``vicuna_v1.1`` in its older form only, where the first separator follows the system
message, too; here that space is a part of ``system_template``.

Mended in ``llava``: the first message has its role, and no line end stands before it.
"""

from __future__ import annotations

from typing import Any

VICUNA_V1_1: dict[str, Any] = {
    "name": "vicuna_v1.1",
    "system_template": "{system_message} ",
    "system_message": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    ),
    "system_optional": True,
    "add_bos": True,
    "roles": {"user": "USER", "assistant": "ASSISTANT"},
    "seps": [" ", "</s>"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

LLAVA = {**VICUNA_V1_1, "name": "llava", "system_message": "", "seps": [" "]}
