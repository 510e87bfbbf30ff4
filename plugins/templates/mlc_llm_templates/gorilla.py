"""Gorilla's models, which call functions.

``function_string`` is the list of functions; it stands in the last message of the user.

Mended in ``gorilla-openfunctions-v2``: a line end follows the system message, as on its card.
"""

from __future__ import annotations

from typing import Any

GORILLA: dict[str, Any] = {
    "name": "gorilla",
    "system_template": "{system_message}",
    "system_message": (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant provides helpful, detailed, and polite responses to the user's inquiries."
    ),
    "add_bos": True,
    "roles": {"user": "USER", "assistant": "ASSISTANT", "tool": "USER"},
    "role_templates": {"user": "<<question>> {user_message} <<function>> {function_string}"},
    "seps": ["\n", "</s>"],
    "role_content_sep": ": ",
    "role_empty_sep": ":",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

GORILLA_OPENFUNCTIONS_V2: dict[str, Any] = {
    "name": "gorilla-openfunctions-v2",
    "system_template": "{system_message}\n",
    "system_message": (
        "You are an AI programming assistant, utilizing the Gorilla LLM model, developed by "
        "Gorilla LLM, and you only answer questions related to computer science. For politically "
        "sensitive questions, security and privacy issues, and other non-computer science "
        "questions, you will refuse to answer."
    ),
    "system_optional": True,
    "add_bos": True,
    "roles": {
        "user": "### Instruction",
        "assistant": "### Response",
        "tool": "### Instruction",
    },
    "role_templates": {"user": "<<function>>{function_string}\n<<question>>{user_message}"},
    "seps": ["\n", "<|EOT|>"],
    "role_content_sep": ": ",
    "role_empty_sep": ": ",
    "stop_str": ["<|EOT|>"],
    # <|EOT|>
    "stop_token_ids": [100015],
}
