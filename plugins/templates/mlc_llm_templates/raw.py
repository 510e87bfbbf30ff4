"""The prompt as it is, for models that continue a text.

They have no memory, since nothing tells who wrote what, and leave a system message out. MLC's
ChatModule did so for ``LM`` and ``codellama_completion``. What begins and ends a text of ``LM`` is
the tokenizer's; MLC had Llama's numbers.
"""

from __future__ import annotations

from typing import Any

_AS_IT_IS: dict[str, Any] = {
    "system_template": "",
    "system_message": "",
    "roles": {"user": "", "assistant": ""},
    "seps": [""],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": [],
    "stop_token_ids": [],
    "has_memory": False,
}

LM = {**_AS_IT_IS, "name": "LM", "add_bos": True}

CODELLAMA_COMPLETION = {
    **_AS_IT_IS,
    "name": "codellama_completion",
    "add_bos": True,
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

GPT2 = {**_AS_IT_IS, "name": "gpt2", "stop_str": ["</s>"], "stop_token_ids": [50256]}

GPT_BIGCODE = {
    **_AS_IT_IS,
    "name": "gpt_bigcode",
    "stop_str": ["<|endoftext|>"],
    "stop_token_ids": [0],
}
