"""DeepSeek's models, and the smaller ones that were trained on answers of R1.

Mended: an empty line follows the system message of ``deepseek`` and ``deepseek_v2``; an answer of
the R1 models begins with ``<think>``, and the reasoning of earlier answers is left out.
"""

from __future__ import annotations

from typing import Any

DEEPSEEK: dict[str, Any] = {
    "name": "deepseek",
    "system_template": "{system_message}\n\n",
    "system_message": "",
    "system_optional": True,
    "add_bos": True,
    "roles": {"user": "User", "assistant": "Assistant"},
    "seps": ["\n\n", "<｜end▁of▁sentence｜>"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["<｜end▁of▁sentence｜>"],
    # <｜end▁of▁sentence｜>
    "stop_token_ids": [100001],
}

DEEPSEEK_V2 = {**DEEPSEEK, "name": "deepseek_v2"}

_KIND = (
    "an AI assistant created exclusively by the Chinese Company DeepSeek. You'll provide helpful, "
    "harmless, and detailed responses to all user inquiries."
)

DEEPSEEK_V3: dict[str, Any] = {
    "name": "deepseek_v3",
    "system_template": "{system_message}",
    "system_message": f"You are Deepseek-V3, {_KIND}",
    "add_bos": True,
    "roles": {"user": "<｜User｜>", "assistant": "<｜Assistant｜>"},
    "seps": ["", "<｜end▁of▁sentence｜>"],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": [],
    # <｜end▁of▁sentence｜>
    "stop_token_ids": [1],
}

_R1: dict[str, Any] = {
    **DEEPSEEK_V3,
    "system_message": f"You are Deepseek-R1, {_KIND}",
    "role_empty_sep": "<think>\n",
    "strip_reasoning_in_history": True,
}

DEEPSEEK_R1_QWEN = {**_R1, "name": "deepseek_r1_qwen", "stop_token_ids": [151643]}

DEEPSEEK_R1_LLAMA = {**_R1, "name": "deepseek_r1_llama", "stop_token_ids": [128001]}
