"""Models that were trained on layouts with ``### Instruction`` and ``### Response``.

Mended: what stands between the system message and the first instruction, and nothing stands after
the last mark of an answer. ``wizardlm_7b`` is the layout on WizardLM-7B-V1.0's card.
"""

from __future__ import annotations

from typing import Any

_BELOW = (
    "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request."
)

WIZARD_CODER_OR_MATH: dict[str, Any] = {
    "name": "wizard_coder_or_math",
    "system_template": "{system_message}\n\n",
    "system_message": _BELOW,
    "system_optional": True,
    "add_bos": True,
    "roles": {"user": "### Instruction", "assistant": "### Response"},
    "seps": ["\n\n"],
    "role_content_sep": ":\n",
    "role_empty_sep": ":",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

WIZARDLM_7B: dict[str, Any] = {
    **WIZARD_CODER_OR_MATH,
    "name": "wizardlm_7b",
    "system_message": "",
    "roles": {"user": "", "assistant": "### Response:"},
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": ["###"],
}

DOLLY: dict[str, Any] = {
    "name": "dolly",
    "system_template": "{system_message}\n\n",
    "system_message": _BELOW,
    "system_optional": True,
    "roles": {"user": "### Instruction", "assistant": "### Response"},
    "seps": ["\n\n", "\n\n### End\n\n"],
    "role_content_sep": ":\n",
    "role_empty_sep": ":\n",
    "stop_str": ["### End"],
    "stop_token_ids": [50256],
}

LLM_JP: dict[str, Any] = {
    "name": "llm-jp",
    "system_template": "{system_message}",
    "system_message": "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。",
    "add_bos": True,
    "roles": {"user": "\n\n### 指示:", "assistant": "\n\n### 応答:"},
    "seps": ["", "</s>"],
    "role_content_sep": "\n",
    "role_empty_sep": "\n",
    "stop_str": [],
    "stop_token_ids": [2],
}
