"""Words that stay whole at the end of a line."""

from __future__ import annotations

import textwrap

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.cli.chat.answering import WordWrap

COLUMNS = 30


def shown(pieces: list[str]) -> list[str]:
    """The lines that a terminal shows of a text that comes in pieces."""
    screen = pyte.Screen(COLUMNS, 200)
    stream = pyte.Stream(screen)
    wrap = WordWrap(COLUMNS)
    for piece in pieces:
        stream.feed(wrap.push(piece).replace("\n", "\r\n"))
    return "\n".join(line.rstrip() for line in screen.display).rstrip().split("\n")


@given(st.lists(st.text("abcde", min_size=1, max_size=20), min_size=1, max_size=40), st.integers(1))
def test_lines_break_between_words_however_the_text_comes(words: list[str], size: int) -> None:
    text = " ".join(words)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    expected = textwrap.wrap(text, COLUMNS - 1)
    assert shown(pieces) == expected


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\n\n  two", ["one", "", "  two"]),
        ("x" * 40 + " y", ["x" * 29, "x" * 11 + " y"]),
        ("語" * 20, ["語" * 14, "語" * 6]),
        ("a\tb", ["a       b"]),
    ],
)
def test_what_is_not_words(text: str, lines: list[str]) -> None:
    assert [line.replace("語 ", "語") for line in shown(list(text))] == lines


def test_without_columns_the_text_stays() -> None:
    assert WordWrap(None).push("a b" * 100) == "a b" * 100
