"""Google's Gemma models (``-it``).

Mended: a system message stands in the first message of the user, as in Gemma 3's own template;
those of Gemma 1 and 2 refuse one. In Gemma 1 and 2 the end of a turn is token 107, in Gemma 3 106,
and there 107 is a line end.
"""

from __future__ import annotations

from typing import Any

GEMMA_INSTRUCTION: dict[str, Any] = {
    "name": "gemma_instruction",
    "system_template": "<start_of_turn>user\n{system_message}\n\n",
    "system_message": "",
    "system_optional": True,
    "add_bos": True,
    "add_role_after_system_message": False,
    "roles": {"user": "<start_of_turn>user", "assistant": "<start_of_turn>model"},
    "seps": ["<end_of_turn>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<end_of_turn>"],
    # <eos>, <end_of_turn>
    "stop_token_ids": [1, 107],
}

GEMMA3_INSTRUCTION = {
    **GEMMA_INSTRUCTION,
    "name": "gemma3_instruction",
    # <eos>, <end_of_turn>
    "stop_token_ids": [1, 106],
}
