"""CodeLlama-Instruct, with the names and values of MLC LLM's template.

The official template, which is Llama-2's, ends every answer with `` </s>`` and begins every turn
with ``<s>``, has the system message between ``<<SYS>>`` marks inside the first instruction, and no
space after the last ``[/INST]``.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "codellama_instruct",
    "system_template": "{system_message}",
    "system_message": "",
    "add_bos": True,
    "roles": {"user": "[INST]", "assistant": "[/INST]"},
    "seps": [" "],
    "role_content_sep": " ",
    "role_empty_sep": " ",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}
