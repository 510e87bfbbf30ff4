"""WizardCoder and WizardMath, with the names and values of MLC LLM's template.

The official prompt has an empty line and ``### `` before the first ``Instruction:``, too, and ends
right after the last ``Response:``, without a line end.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "wizard_coder_or_math",
    "system_template": "{system_message}",
    "system_message": (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request."
    ),
    "add_bos": True,
    "roles": {"user": "Instruction", "assistant": "Response"},
    "seps": ["\n\n### ", "\n\n### "],
    "role_content_sep": ":\n",
    "role_empty_sep": ":\n",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}
