"""ChatML, with the names and values of MLC LLM's template.

The stop token is 2, which is ``<|im_end|>`` or the end of the text in the models it was written
for. For a tokenizer that has ``<|im_end|>`` as a special token under another id, the stop string
of that name ends an answer.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "chatml",
    "system_template": "<|im_start|>system\n{system_message}<|im_end|>\n",
    "system_message": (
        "A conversation between a user and an LLM-based AI assistant. "
        "The assistant gives helpful and honest answers."
    ),
    "roles": {"user": "<|im_start|>user", "assistant": "<|im_start|>assistant"},
    "seps": ["<|im_end|>\n"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": ["<|im_end|>"],
    "stop_token_ids": [2],
}
