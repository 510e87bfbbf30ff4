"""What chat templates write, compared with transformers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm.conversation.jinja.origin import TEMPLATE, Text, runs_of
from mlc_llm.conversation.jinja.rendering import MOST_CHARACTERS, ChatRenderer
from mlc_llm.errors import TemplateError
from mlc_llm.testing import raises

from .jinja_templates import ALL, CHATML

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The <b>weather</b> of a town, in °C",
            "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
        },
    }
]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"town": "Paris"}}}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one": [{"role": "user", "content": "Hello"}],
    "system": [{"role": "system", "content": " S\n"}, {"role": "user", "content": " Hi  "}],
    "two": [
        {"role": "user", "content": "Hello\n"},
        {"role": "assistant", "content": "  Hi  "},
        {"role": "user", "content": "\n x "},
    ],
    "systems": [
        {"role": "system", "content": "A"},
        {"role": "system", "content": "B"},
        {"role": "user", "content": "Hello"},
    ],
    "reasoning": [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nA"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "reasoning_content": "\nHm.\n", "content": "A"},
    ],
    "tools": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "name": "weather", "tool_call_id": "123", "content": '{"t": 20}'},
        {"role": "assistant", "content": "It is 20 °C."},
    ],
    "parts": [{"role": "user", "content": [{"type": "text", "text": " a "}]}],
}
VARIABLES: list[dict[str, Any]] = [
    {},
    {"tools": TOOLS},
    {"documents": [{"title": "Straße", "text": "One\ntwo"}]},
    {"enable_thinking": False},
]
PIECES = st.sampled_from([" ", "\n", "<", "|>", "</s>", "<think>", "</think>", "a", "%s", "{}"])
CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXT = st.lists(PIECES | CHARACTERS, max_size=20).map("".join)


def _as_transformers_does(
    transformers: Any, source: str, messages: list[dict[str, Any]], **variables: Any
) -> str | None:
    """The reference; None where the template refuses or fails."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        prompts, _spans = render_jinja_template(
            [copy.deepcopy(messages)], chat_template=source, **{**TOKENS, **variables}
        )
    except Exception:  # jinja2's errors, and Python's
        return None
    return str(prompts[0])


def _as_we_do(source: str, messages: list[dict[str, Any]], **variables: Any) -> str | None:
    tokens = {name: Text.of(text, TEMPLATE) for name, text in TOKENS.items()}
    given = {"tools": None, "documents": None, **tokens, **variables, "messages": messages}
    try:
        return str(ChatRenderer(source, "it").render(given))
    except TemplateError as error:
        if error.code not in ("template-refused", "template-failed"):
            raise
        return None


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_as_transformers_does(name: str, conversation: str, transformers: Any) -> None:
    messages = CONVERSATIONS[conversation]
    for variables in VARIABLES:
        for prompt in (True, False):
            given = {**variables, "add_generation_prompt": prompt}
            expected = _as_transformers_does(transformers, ALL[name], messages, **given)
            assert _as_we_do(ALL[name], messages, **given) == expected


@pytest.mark.parametrize("name", ALL)
@hypothesis.settings(max_examples=30)
@hypothesis.given(texts=st.lists(TEXT, min_size=1, max_size=4))
def test_any_text_as_transformers_does(name: str, texts: list[str], transformers: Any) -> None:
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    expected = _as_transformers_does(transformers, ALL[name], messages, add_generation_prompt=True)
    assert _as_we_do(ALL[name], messages, add_generation_prompt=True) == expected


def llama_2_chat(test_data: Path) -> str:
    """Llama-2's template, which its file holds with lines and indentations for people."""
    text = (test_data / "chat-templates" / "llama-2-chat.jinja").read_text()
    return text.replace("    ", "").replace("\n", "")


def test_official_prompts(test_data: Path) -> None:
    """What the models' own templates make of six conversations, where the template is here."""
    official = json.loads((test_data / "templates" / "official_prompts.json").read_text())
    sources = {
        "chujiezheng: llama-2-chat": llama_2_chat(test_data),
        "mistral-common: v1": (test_data / "chat-templates" / "mistral-v1.jinja").read_text(),
        "tokenizer_config: smollm2": CHATML,
    }
    count = 0
    for name, source in sources.items():
        prompts = official["prompts"][name]
        tokens = {key: Text.of(prompts[key], TEMPLATE) for key in TOKENS}
        for conversation, expected in prompts["rendered"].items():
            messages = official["conversations"][conversation]
            if isinstance(expected, str):
                prompt = _as_we_do(source, messages, **tokens, add_generation_prompt=True)
                assert prompt == expected, (name, conversation)
                count += 1
    assert count > 12


def test_what_the_template_wrote_is_known() -> None:
    """Here nothing that is given is in capital letters, and all that is written is."""
    source = (
        "{% macro shout(x) %}A{{ x }}B{{ x|trim ~ 'C' }}{% endmacro %}"
        "{% set ns = namespace(t='') %}"
        "{% for m in messages %}{% set ns.t = ns.t + 'D' + m.role + '%s' % m.content %}{% endfor %}"
        "{{ ns.t|replace('x', 'E') }}{{ shout(messages[0].content) }}"
        "{{ 'F{}G{x}'.format(1, x=messages[0].role) }}"
        "{{ ['H', messages[0].content]|join('I') }}{% set b %}J{{ messages[0].role }}{% endset %}"
        "{{ b }}{% filter trim %}K {% endfilter %}{{ 'L' * 2 }}{{ ('M|N').split('|')|last }}"
        "{{ messages[0].content.split('y') | join('O') }}{{ ('p'|upper)[::1] }}"
        "{{ messages|tojson }}"
        "{% for c in 'QR' %}{{ c }}{% endfor %}{{ {'a': 'S'}['a'] }}{{ ('T', 'U')[1] }}"
        "{{ 'V'.join(['w', messages[0].role]) | replace('w', 'W') }}"
    )
    text = ChatRenderer(source, "it").render({"messages": [{"role": "u", "content": " xy "}]})
    at = 0
    for run in runs_of(text):
        for letter in str(text)[at : at + run.length]:
            if letter.isalpha():
                assert letter.isupper() == (run.origin == TEMPLATE), (letter, at, text)
        at += run.length
    assert {letter for letter in text if letter.isupper()} == set("ABCDEFGHIJKLNOPQRSUVW")


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("{% if %}", "line 1"),
        ("a\n{{ x | urlize }}", "line 2"),
        ("{{ (" * 1000, "it"),
        ("{% for i in [1] %}" * 30 + "{% endfor %}" * 30, "it"),
        ("x" * (MOST_CHARACTERS + 1), MOST_CHARACTERS + 1),
        ("{{ 9007199254740993 }}", "line 1"),
    ],
)
def test_what_is_not_a_template(source: str, value: str | int) -> None:
    with raises("template-unreadable", value, error=TemplateError):
        ChatRenderer(source, "it")


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ x.y.z }}",
        "{{ [].append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ messages.clear() }}",
        "{{ ''.encode() }}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{% set ns = namespace(__class__=1) %}",
    ],
)
def test_templates_that_fail(source: str) -> None:
    with raises("template-failed", "it", error=TemplateError):
        ChatRenderer(source, "it").render({"messages": []})


def test_reasons_of_the_template() -> None:
    with raises("template-refused", "take turns, please", error=TemplateError):
        ChatRenderer("{{ raise_exception('take turns, please') }}", "it").render({})


def test_variables_are_not_nested_for_ever() -> None:
    value: list[Any] = []
    value.append(value)
    with raises("template-failed", error=TemplateError):
        ChatRenderer("{{ x }}", "it").render({"x": value})
