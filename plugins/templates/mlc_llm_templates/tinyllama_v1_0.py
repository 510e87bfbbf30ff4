"""TinyLlama-1.1B-Chat-v1.0, with the names and values of MLC LLM's template.

The official template has a line end after every ``</s>``. Like it, this one has no BOS.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "tinyllama_v1_0",
    "system_template": "<|system|>\n{system_message}</s>",
    "system_message": "You are a helpful chatbot.",
    "roles": {"user": "<|user|>", "assistant": "<|assistant|>"},
    "seps": ["</s>"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}
