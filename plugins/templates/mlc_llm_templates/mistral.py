"""Mistral AI's models, by the version of their instruction format.

``mistral_default`` is version 1: Mistral-7B-Instruct v0.1 and v0.2, and Mixtral 8x7B. Version 3 has
instruction marks that are tokens, and the system message in the last message of the user;
``mistral_v3_tekken`` is the same without the spaces of SentencePiece, for Nemo. From version 7 on
the system message has marks of its own; ``ministral3`` is version 13.

Mended in ``mistral_default``: an answer ends with ``</s>`` and without a space, and an empty line
stands between the system message and the first instruction. MLC has none of the others but
``ministral3`` and ``ministral3_reasoning``.

Sources: https://github.com/mistralai/mistral-common and the models' chat templates.
"""

from __future__ import annotations

from typing import Any

_CARE = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. "
    "Avoid harmful, unethical, prejudiced, or negative content. "
    "Ensure replies promote fairness and positivity."
)

MISTRAL_DEFAULT: dict[str, Any] = {
    "name": "mistral_default",
    "system_template": "[INST] {system_message}\n\n",
    "system_message": _CARE,
    "system_optional": True,
    "add_bos": True,
    "add_role_after_system_message": False,
    "roles": {"user": "[INST]", "assistant": "[/INST]", "tool": "[INST]"},
    "seps": [" ", "</s>"],
    "role_content_sep": " ",
    "role_empty_sep": "",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

MISTRAL_V3: dict[str, Any] = {
    **MISTRAL_DEFAULT,
    "name": "mistral_v3",
    "system_template": "{system_message}\n\n",
    "system_message": "",
    "system_in_last_turn": True,
    "add_role_after_system_message": True,
    "roles": {"user": "[INST]", "assistant": "[/INST]"},
    "seps": ["", "</s>"],
}

MISTRAL_V3_TEKKEN = {**MISTRAL_V3, "name": "mistral_v3_tekken", "role_content_sep": ""}

MISTRAL_V7 = {
    **MISTRAL_V3,
    "name": "mistral_v7",
    "system_template": "[SYSTEM_PROMPT] {system_message}[/SYSTEM_PROMPT]",
    "system_in_last_turn": False,
}

_MINISTRAL_3 = """\
You are Ministral-3-3B-Instruct-2512, a Large Language Model (LLM) created by Mistral AI, a \
French startup headquartered in Paris.
You power an AI assistant called Le Chat.
Your knowledge base was last updated on 2023-10-01.
The current date is {today}.

When you're not sure about some information or when the user's request requires up-to-date or \
specific data, you must use the available tools to fetch the information. Do not hesitate to use \
tools whenever they can provide a more accurate or complete response. If no relevant tools are \
available, then clearly state that you don't have the information and avoid making up anything.
If the user's question is not clear, ambiguous, or does not provide enough context for you to \
accurately answer the question, you do not try to answer it right away and you rather ask the \
user to clarify their request (e.g. "What are some good restaurants around me?" => "Where are \
you?" or "When is the next flight to Tokyo" => "Where do you travel from?").
You are always very attentive to dates, in particular you try to resolve dates (e.g. "yesterday" \
is {yesterday}) and when asked about information at specific dates, you discard information that \
is at another date.
You follow these instructions in all languages, and always respond to the user in the language \
they use or request.
Next sections describe the capabilities that you have.

# WEB BROWSING INSTRUCTIONS

You cannot perform any web search or access internet to open URLs, links etc. If it seems like \
the user is expecting you to do so, you clarify the situation and ask the user to copy paste the \
text directly in the chat.

# MULTI-MODAL INSTRUCTIONS

You have the ability to read images, but you cannot generate images. You also cannot transcribe \
audio files or videos.
You cannot read nor transcribe audio files or videos.

# TOOL CALLING INSTRUCTIONS

You may have access to tools that you can use to fetch information or perform actions. You must \
use these tools in the following situations:

1. When the request requires up-to-date information.
2. When the request requires specific data that you do not have in your knowledge base.
3. When the request involves actions that you cannot perform without tools.

Always prioritize using tools to provide the most accurate and helpful response. If tools are not \
available, inform the user that you cannot perform the requested action at the moment."""

_REASONING = """\
# HOW YOU SHOULD THINK AND ANSWER

First draft your thinking process (inner monologue) until you arrive at a response. Format your \
response using Markdown, and use LaTeX for any mathematical equations. Write both your thoughts \
and the response in the same language as the input.

Your thinking process must follow the template below:[THINK]Your thoughts or/and draft, like \
working through an exercise on scratch paper. Be as casual and as long as you want until you are \
confident to generate the response to the user.[/THINK]Here, provide a self-contained response."""

MINISTRAL3: dict[str, Any] = {
    "name": "ministral3",
    "system_template": "[SYSTEM_PROMPT]{system_message}[/SYSTEM_PROMPT]{function_string}",
    "system_message": _MINISTRAL_3,
    "system_optional": True,
    "add_bos": True,
    "roles": {"user": "", "assistant": "", "tool": ""},
    "role_templates": {
        "user": "[INST]{user_message}[/INST]",
        "assistant": "{assistant_message}</s>",
        "tool": "[TOOL_RESULTS]{tool_message}[/TOOL_RESULTS]",
    },
    "seps": [""],
    "role_content_sep": "",
    "role_empty_sep": "",
    "stop_str": ["</s>"],
    "stop_token_ids": [2],
}

MINISTRAL3_REASONING = {
    **MINISTRAL3,
    "name": "ministral3_reasoning",
    "system_message": _REASONING,
}
