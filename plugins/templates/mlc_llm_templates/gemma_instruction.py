"""Gemma and Gemma 2 (``-it``), with the names and values of MLC LLM's template.

Same prompt as the official one, which knows no system message: here one stands between BOS and the
first turn. Not for Gemma 3, where token 107 is a line end.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "gemma_instruction",
    "system_template": "{system_message}",
    "system_message": "",
    "add_bos": True,
    "roles": {"user": "<start_of_turn>user", "assistant": "<start_of_turn>model"},
    "seps": ["<end_of_turn>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<end_of_turn>"],
    # <eos>, <end_of_turn>
    "stop_token_ids": [1, 107],
}
