"""Messages show any value, and are neither long nor errors of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NoReturn

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.config import Overlay, parse_options
from mlc_llm.conversation import Message
from mlc_llm.errors import ConfigError, MLCError, unknown
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.shown import shown


class Odd:
    """An object of which nothing can be learnt."""

    def __repr__(self) -> NoReturn:
        raise ZeroDivisionError


class OddInt(int):
    """A number that does not want to be shown."""

    __repr__ = Odd.__repr__  # type: ignore[assignment]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ODD = [deep(100_000), 10**5000, -(10**5000), Odd(), OddInt(3), {Odd(): Odd()}, [10**5000], "\ud800"]
ODD += ["x" * 10**6, b"x" * 10**6, {1, "a", None}, {1: 2, "a": 3}, type("A B", (), {})(), 1j]


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_odd_values_are_shown(value: Any) -> None:
    assert len(shown(value)) < 2000


@hypothesis.given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_short_values_are_shown_as_they_are(value: Any) -> None:
    hypothesis.assume(len(repr(value)) < 40)
    hypothesis.assume(repr(value).count("[") < 4)
    assert shown(value) == repr(value)


UNHASHABLE = ("key", "role", "template's field", "name of a field")
"""Where a value is the key of a dictionary that the test makes."""
MAKERS: dict[str, Callable[[Any], Any]] = {
    "unknown": lambda value: unknown("thing", value, ["a", "b"]),
    "field": lambda value: GenerationConfig(temperature=value),
    "list": lambda value: GenerationConfig(stop=value),
    "key": lambda value: GenerationConfig(logit_bias={value: 0}),
    "roles": lambda value: ConvConfig(roles=value),
    "role": lambda value: ConvConfig(roles={value: "x"}),
    "template": lambda value: ChatConfig(conv_template=value),
    "template's field": lambda value: ChatConfig(conv_template={value: 1}),
    "template's value": lambda value: ChatConfig(conv_template={"roles": value}),
    "name": lambda value: ConversationTemplate.from_data({"name": value}, "it"),
    "name of a field": lambda value: ConversationTemplate.from_data({value: 1}, "it"),
    "older field": lambda value: ConversationTemplate.from_data({"system": value}, "it"),
    "message": Message.of,
    "content": lambda value: Message.of({"role": "user", "content": value}),
    "part": lambda value: Message.of({"role": "user", "content": [{"type": value}]}),
    "token ids": lambda value: Message.of({"role": "user", "content": "", "token_ids": value}),
    "token id": lambda value: Message.of({"role": "user", "content": "", "token_ids": [value]}),
    "options": lambda value: parse_options(str(value) + ","),
    "assignment": lambda value: setattr(ChatConfig(), "context_window_size", value),
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_no_message_fails_itself(make: str, value: Any) -> None:
    if make == "options" and not isinstance(value, str):
        return
    if isinstance(value, list | dict | set) and make in UNHASHABLE:
        return  # It cannot be the key of a dictionary.
    with contextlib.suppress(MLCError):
        MAKERS[make](value)
        return
    with pytest.raises(MLCError) as caught:
        MAKERS[make](value)
    assert len(str(caught.value)) < 5000


def test_an_unknown_field_of_an_overlay_may_have_any_name() -> None:
    for overlay in (ChatConfig, ConvConfig, GenerationConfig):
        with pytest.raises(ConfigError) as error:
            overlay(**{"x" * 10**6: 1})
        assert len(str(error.value)) < 2000
    assert issubclass(ChatConfig, Overlay)
