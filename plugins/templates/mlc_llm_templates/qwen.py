"""Qwen's models: ChatML with Qwen's stop tokens, and from Qwen3 on with reasoning.

Reasoning of earlier answers is left out, as Qwen's own templates do.

Mended in ``qwen3_5`` and ``qwen3_5_nothink``: the marks of reasoning stand only where the model is
to write, not before each earlier answer, and are followed by the line ends that the model knows.
"""

from __future__ import annotations

from mlc_llm_templates.chatml import LAYOUT

_HELPFUL = "You are a helpful assistant."
_STOPS = ["<|endoftext|>", "<|im_end|>"]

QWEN2 = {
    **LAYOUT,
    "name": "qwen2",
    "system_message": _HELPFUL,
    "stop_str": _STOPS,
    # <|endoftext|>, <|im_end|>
    "stop_token_ids": [151643, 151645],
}

QWEN3 = {**QWEN2, "name": "qwen3", "strip_reasoning_in_history": True}

QWEN3_5 = {
    **QWEN3,
    "name": "qwen3_5",
    "role_empty_sep": "\n<think>\n",
    # <|im_end|>, <|endoftext|>
    "stop_token_ids": [248046, 248044],
}

QWEN3_5_NOTHINK = {
    **QWEN3_5,
    "name": "qwen3_5_nothink",
    "role_empty_sep": "\n<think>\n\n</think>\n\n",
}
