"""The models' own chat templates, in Jinja, with the messages that they lay out."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from fuzz.mutation import mutate_file
from fuzz.mutation.jinja_text import mutate_template
from fuzz.mutation.json_text import json_bytes
from fuzz.subject import Case, Subject
from fuzz.subjects.small_model import checkpoint
from mlc_llm.config import ConvConfig
from mlc_llm.conversation import Conversation, read_jinja_template
from mlc_llm.errors import ConfigError
from mlc_llm.files import read_json_object
from mlc_llm.sources.folder import CHAT_TEMPLATE_FILE
from mlc_llm.tokenizer import Tokenizer, load_tokenizer

CONTROL = "\u27e6control\u27e7"
"""A control token that no template here writes, and every message holds."""

_PLAIN = """{{ bos_token }}{% for message in messages %}
{%- if loop.first and message.role != 'system' %}{{ '<system>Be brief.' }}{% endif %}
{{- '<' + message['role'] + '>\\n' + message['content'] | trim + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<assistant>\\n' }}{% endif %}"""
_RICH = """{% macro show(m) %}{{ '%s: ' % m.role }}{{ m.content }}{% endmacro %}
{%- set ns = namespace(x='', last=0) %}
{%- if tools %}{% for tool in tools %}{{ tool | tojson(indent=2) }}{% endfor %}{% endif %}
{%- for m in messages %}
{%- if m.content is string and '</think>' in m.content %}
{%- set ns.x = ns.x + m.content.split('</think>')[-1].lstrip('\\n') %}
{%- elif m.tool_calls is defined %}{{ m.tool_calls | map('tojson') | join(', ') }}
{%- elif m.content is mapping or m.content is not string %}
{%- for part in m.content %}{{ part.text | default('') }}{% endfor %}
{%- else %}{% set ns.last = loop.index0 %}{{ show(m) }}{% endif %}
{%- endfor %}{{ ns.x ~ ns.last }}{{ strftime_now('%Y') }}
{%- if messages[-1].role == 'assistant' %}{{ messages[-1]['content'] }}{% endif %}"""

_MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": f"Be {CONTROL} brief."},
    {"role": "user", "content": f"{CONTROL} Hello <s>"},
    {"role": "assistant", "content": "<think>so</think>\nYes.", "token_ids": [92, 104]},
    {"role": "user", "content": [{"type": "text", "text": f"a{CONTROL}"}], "name": CONTROL},
    {"role": "assistant", "content": "", "tool_calls": [{"name": CONTROL, "id": CONTROL}]},
    {"role": "tool", "content": CONTROL},
]
_VARIABLES: dict[str, Any] = {"tools": [{"name": CONTROL, "a": [1, CONTROL]}], "x": CONTROL}


class ChatTemplates(Subject):
    """A template is read and lays out messages. Only what it writes itself is a control token."""

    name = "chat-template"
    share = 2.0

    def seeds(self) -> list[Case]:
        answer = {"role": "assistant", "content": f"It is {CONTROL}"}
        chats: list[dict[str, Any]] = [
            {"messages": _MESSAGES, "variables": _VARIABLES},
            {"messages": _MESSAGES[:3], "variables": {}},
            {"messages": [*_MESSAGES[:2], answer], "continues": True},
        ]
        return [
            {CHAT_TEMPLATE_FILE: template.encode(), "chat.json": json_bytes(chat)}
            for template in (_PLAIN, _RICH)
            for chat in chats
        ]

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        if name == CHAT_TEMPLATE_FILE:
            return mutate_template(content, random)
        return mutate_file(name, content, random)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        """A token for each byte, and the control token."""
        import tokenizers

        made = tokenizers.Tokenizer.from_file(str(checkpoint() / "tokenizer.json"))
        made.add_special_tokens([CONTROL])
        folder = Path.cwd() / "with-control"
        folder.mkdir(exist_ok=True)
        made.save(str(folder / "tokenizer.json"))
        return load_tokenizer(folder)

    def feed(self, folder: Path) -> None:
        chat = read_json_object(folder / "chat.json", ConfigError)
        template = read_jinja_template(folder)
        assert template is not None
        variables = chat.get("variables") or {}
        template = template.overlaid(ConvConfig(chat_template_kwargs=variables))
        conversation = Conversation(template, self._tokenizer)
        messages, continues = chat.get("messages", ()), bool(chat.get("continues"))
        ids = conversation.prompt(messages, continues=continues).ids
        conversation.prompt_text(messages, continues=continues).encode("utf-8")
        control = self._tokenizer.special_ids[CONTROL]
        assert control not in ids or _has_generated(messages, control)


def _has_generated(messages: Any, token_id: int) -> bool:
    """Whether a message says that the model itself generated a token."""
    return any(token_id in (message.get("token_ids") or ()) for message in messages)
