"""Qwen2 and Qwen2.5, with the names and values of MLC LLM's template.

ChatML with Qwen's stop tokens. Same prompt as Qwen2's official one; Qwen2.5's own has another
system message by default, and roles for tools, which this one has not.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "qwen2",
    "system_template": "<|im_start|>system\n{system_message}<|im_end|>\n",
    "system_message": "You are a helpful assistant.",
    "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
    "seps": ["<|im_end|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<|endoftext|>", "<|im_end|>"],
    # <|endoftext|>, <|im_end|>
    "stop_token_ids": [151643, 151645],
}
