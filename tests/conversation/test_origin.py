"""Texts that know where their characters come from: equal to Python's, and right about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mlc_llm.conversation.jinja.origin import GIVEN, TEMPLATE, Run, Text, joined, runs_of

# A letter says by itself where it comes from, whatever is done to it.
OF_TEMPLATE, OF_MESSAGE, FOLLOWED = "aA \n", "bB\tß", "cC\r"
ORIGINS = {TEMPLATE: OF_TEMPLATE, GIVEN: OF_MESSAGE, 1: FOLLOWED}

Pieces = list[tuple[int, str]]


def _pieces(size: int = 6) -> st.SearchStrategy[Pieces]:
    kinds = [
        st.tuples(st.just(origin), st.text(letters, max_size=size))
        for origin, letters in ORIGINS.items()
    ]
    return st.lists(st.one_of(kinds), max_size=size)


def _text(pieces: Pieces) -> Text:
    return joined(Text.of(text, origin) for origin, text in pieces)


OPERATIONS: dict[str, Callable[[Any, Any, int], Any]] = {
    "add": lambda text, other, n: text + other,
    "add plain": lambda text, other, n: text + "b" + other,
    "radd": lambda text, other, n: "b" + text,
    "mul": lambda text, other, n: text * n + n * other,
    "item": lambda text, other, n: text[n] if -len(text) <= n < len(text) else "",
    "from": lambda text, other, n: text[n:],
    "to": lambda text, other, n: text[: n - 3],
    "strip": lambda text, other, n: text.strip(),
    "strip these": lambda text, other, n: text.strip("aAbc"),
    "lstrip": lambda text, other, n: text.lstrip(),
    "rstrip": lambda text, other, n: text.rstrip(),
    "split": lambda text, other, n: text.split(),
    "split at": lambda text, other, n: text.split(other or "a", n),
    "rsplit": lambda text, other, n: text.rsplit(None, n),
    "rsplit at": lambda text, other, n: text.rsplit(other or "b"),
    "splitlines": lambda text, other, n: text.splitlines(),
    "splitlines with ends": lambda text, other, n: text.splitlines(True),
    "partition": lambda text, other, n: text.partition(other or "a"),
    "rpartition": lambda text, other, n: text.rpartition(other or "a"),
    "replace": lambda text, other, n: text.replace(other or "a", text),
    "replace some": lambda text, other, n: text.replace("b", other, n),
    "join": lambda text, other, n: text.join([other] * max(n, 0)),
    "lower": lambda text, other, n: text.lower(),
    "capitalize": lambda text, other, n: text.capitalize(),
    "removeprefix": lambda text, other, n: text.removeprefix(other),
    "removesuffix": lambda text, other, n: text.removesuffix(other),
    "list": lambda text, other, n: list(text),
}


def _check(text: str, complete: bool = True) -> None:
    """Every character is said to come from where its letter says."""
    at = 0
    for run in runs_of(text):
        letters = set(str.__getitem__(text, slice(at, at + run.length)))
        assert run.length > 0
        if run.origin == TEMPLATE:
            assert letters <= set(OF_TEMPLATE)
        elif complete:
            assert not letters & set(OF_TEMPLATE)
        at += run.length
    assert at == len(text)


@pytest.mark.parametrize("name", OPERATIONS)
@hypothesis.settings(max_examples=50)  # of each operation
@hypothesis.given(text=_pieces(), other=_pieces(2), n=st.integers(-3, 6))
def test_operations(name: str, text: Pieces, other: Pieces, n: int) -> None:
    first, second = _text(text), _text(other)
    plain = ("".join(piece for _, piece in pieces) for pieces in (text, other))
    result = OPERATIONS[name](first, second, n)
    assert result == OPERATIONS[name](*plain, n)
    grows = name in ("lower", "capitalize") and len(result) != len(first)
    for part in [result] if isinstance(result, str) else result:
        _check(part, complete=isinstance(part, Text) and not grows)


@hypothesis.given(text=_pieces(), start=st.integers(0, 9), stop=st.integers(0, 9))
def test_a_followed_text_keeps_its_places(text: Pieces, start: int, stop: int) -> None:
    content = "".join(piece for _, piece in text)
    whole = joined([Text.of("a", TEMPLATE), Text.of(content, 5), Text.of("a", TEMPLATE)])
    at = 0
    part = whole[start:stop]
    for run in runs_of(part):
        if run.origin == 5:
            assert content[run.start : run.start + run.length] == part[at : at + run.length]
        at += run.length


def test_a_followed_text_that_is_changed_is_another_one() -> None:
    text = Text.of("Ab", 3)
    assert runs_of(text.upper()) == (Run(2, GIVEN),)
    assert runs_of(text.replace("A", "A")) == (Run(1, GIVEN), Run(1, 3, 1))
    assert runs_of(text[0:1] + text[1:2]) == (Run(2, 3, 0),)


def test_what_does_not_know_of_origins_counts_as_given() -> None:
    text = Text.of("</s>", TEMPLATE)
    for result in (text.center(9), f"{text}!", "".join([text]), text[::-1], text.swapcase()):
        assert {run.origin for run in runs_of(result)} == {GIVEN}


def test_it_is_a_string_like_any_other() -> None:
    text = Text.of("ab", TEMPLATE)
    assert text == "ab"
    assert hash(text) == hash("ab")
    assert {"ab": 1}[text] == 1
    with pytest.raises(TypeError):
        text + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        text.join([1])  # type: ignore[list-item]
    with pytest.raises(IndexError):
        text[2]
    with pytest.raises(ValueError, match="empty separator"):
        text.split("")
