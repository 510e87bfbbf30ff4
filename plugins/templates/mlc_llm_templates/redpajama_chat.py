"""RedPajama-INCITE-Chat, with the names and values of MLC LLM's template.

Same prompt as on the models' cards. A system message, which they do not know, stands before the
first ``<human>``.
"""

from __future__ import annotations

from typing import Any

TEMPLATE: dict[str, Any] = {
    "name": "redpajama_chat",
    "system_template": "{system_message}",
    "system_message": "",
    "roles": {"user": "<human>", "assistant": "<bot>"},
    "seps": ["\n"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["<human>"],
    # <|endoftext|>
    "stop_token_ids": [0],
}
