"""CodeLlama (base) completing code, with MLC LLM's names and values.

The prompt as it is. Like MLC's ChatModule, it has no memory and leaves a system message out.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "codellama_completion",
    "system_template": "{system_message}",
    "system_message": "",
    "add_bos": True,
    "roles": {"user": "", "assistant": ""},
    "seps": [""],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
    "has_memory": False,
}
