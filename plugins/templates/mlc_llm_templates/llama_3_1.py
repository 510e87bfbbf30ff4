"""Llama-3.1-Instruct and later 3.x models, with the names and values of MLC LLM's template.

The official template puts two lines with dates before the system message, and writes a tool's
answer as a JSON string; this one does neither.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "llama-3_1",
    "system_template": ("<|start_header_id|>system<|end_header_id|>\n\n{system_message}<|eot_id|>"),
    "system_message": "You are a helpful, respectful and honest assistant.",
    "add_bos": True,
    "roles": {
        "user": "<|start_header_id|>user",
        "assistant": "<|start_header_id|>assistant",
        "tool": "<|start_header_id|>ipython",
    },
    "seps": ["<|eot_id|>"],
    "role_content_sep": "<|end_header_id|>\n\n",
    "role_empty_sep": "<|end_header_id|>\n\n",
    "stop_str": [],
    # <|end_of_text|>, <|eom_id|>, <|eot_id|>
    "stop_token_ids": [128001, 128008, 128009],
}
