"""Reading what is entered: messages, commands, quotes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.cli.chat.entry import Entry, is_open


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("", Entry("")),
        ("  Hello there \n", Entry("Hello there")),
        ("/help", Entry("", "/help")),
        ("/?", Entry("", "/?")),
        ("/HELP ", Entry("", "/help")),
        ("/system  Be brief. ", Entry("Be brief.", "/system")),
        ("/system\nBe brief.\nBe kind.", Entry("Be brief.\nBe kind.", "/system")),
        (" /help", Entry("/help")),
        ("/etc/hosts is what?", Entry("/etc/hosts is what?")),
        ("/ 2", Entry("/ 2")),
        ("//", Entry("//")),
        ("/2", Entry("/2")),
        ('"""one\n  two\n"""', Entry("one\n  two")),
        ('"""/help"""', Entry("/help")),
        ('/system """Be\nbrief."""', Entry("Be\nbrief.", "/system")),
        ('""""""', Entry("")),
        ('"""a""" and """b"""', Entry('"""a""" and """b"""')),
        ('say """a"""', Entry('say """a"""')),
    ],
)
def test_entries(text: str, entry: Entry) -> None:
    assert Entry.of(text) == entry


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ('"""', True),
        ('  """one\ntwo', True),
        ('/system """Be', True),
        ('"""one"""', False),
        ('"""A docstring."""\nx = 1', False),
        ('say """', False),
        ("one\n", False),
        ("", False),
    ],
)
def test_open_quotes(text: str, more: bool) -> None:
    assert is_open(text) is more


@given(st.text())
def test_any_text_in_quotes_is_a_message(text: str) -> None:
    inner = text.replace('"', "'").strip("\r\n")
    assert Entry.of(f'"""{inner}"""') == Entry(inner)


@given(st.text())
def test_a_space_makes_a_message(text: str) -> None:
    assert Entry.of(" " + text).command is None
