"""Llama-3-Instruct, with the names and values of MLC LLM's template.

Same prompt as the official one, but for the system message that is there by default.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "llama-3",
    "system_template": ("<|start_header_id|>system<|end_header_id|>\n\n{system_message}<|eot_id|>"),
    "system_message": "You are a helpful, respectful and honest assistant.",
    "add_bos": True,
    "roles": {
        "user": "<|start_header_id|>user",
        "assistant": "<|start_header_id|>assistant",
    },
    "seps": ["<|eot_id|>"],
    "role_content_sep": "<|end_header_id|>\n\n",
    "role_empty_sep": "<|end_header_id|>\n\n",
    "stop_str": ["<|end_of_text|>", "<|eot_id|>"],
    # <|end_of_text|>, <|eot_id|>
    "stop_token_ids": [128001, 128009],
}
