"""Saved conversations: what is written, what is read, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.cli.chat.transcript import Transcript, read_transcript, write_transcript
from mlc_llm.errors import MLCError

MESSAGES = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Übung\n😀"},
    {"role": "assistant", "content": ""},
)


def test_the_format(tmp_path: Path) -> None:
    path = tmp_path / "conversation.json"
    write_transcript(path, Transcript("demo", MESSAGES))
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data == {"version": 1, "model": "demo", "messages": list(MESSAGES)}
    assert "Übung" in path.read_text(encoding="utf-8")
    assert read_transcript(path) == Transcript("demo", MESSAGES)
    assert list(tmp_path.iterdir()) == [path]


@given(
    st.text(),
    st.lists(st.fixed_dictionaries({"role": st.text(), "content": st.text()}), max_size=4),
)
def test_what_is_written_is_read(tmp_path_factory: Any, model: str, messages: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any-conversation.json"
    transcript = Transcript(model, tuple(messages))
    write_transcript(path, transcript)
    assert read_transcript(path) == transcript


def test_fields_of_others_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    message = {"role": "user", "content": "Hi", "name": "x", "token_ids": [99999999]}
    path.write_text(json.dumps({"version": 1, "messages": [message], "saved": "today"}))
    assert read_transcript(path) == Transcript("", ({"role": "user", "content": "Hi"},))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[]", "holds a list"),
        ("{}", "no saved conversation"),
        ('{"version": 1}', "no saved conversation"),
        ('{"version": true, "messages": []}', "no saved conversation"),
        ('{"version": 2, "messages": []}', "has version 2.*reads version 1"),
        ('{"version": 1, "messages": [1]}', "message 1 is 1, not an object"),
        ('{"version": 1, "messages": [{"role": "user"}]}', "message 1: content is to be text"),
        ('{"version": 1, "messages": [{"role": 1, "content": ""}]}', "role is to be text"),
    ],
)
def test_what_is_no_conversation(tmp_path: Path, content: str, message: str) -> None:
    """It is not read, and not overwritten."""
    path = tmp_path / "c.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(MLCError, match=f"c.json.*{message}"):
        read_transcript(path)
    with pytest.raises(MLCError, match=f"stays as it is: .*{message}"):
        write_transcript(path, Transcript("demo", MESSAGES))
    assert path.read_bytes() == before


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(MLCError, match="No such file"):
        read_transcript(tmp_path / "absent.json")
    with pytest.raises(MLCError, match="is no file"):
        read_transcript(tmp_path)
    with pytest.raises(MLCError, match="is no file"):
        read_transcript(Path(os.devnull))
    with pytest.raises(MLCError, match="stays as it is"):
        write_transcript(tmp_path, Transcript("demo", MESSAGES))
    with pytest.raises(MLCError, match="cannot be written: No such file"):
        write_transcript(tmp_path / "absent" / "c.json", Transcript("demo", MESSAGES))


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_transcript(tmp_path / "link.json", Transcript("demo", MESSAGES))
    assert (tmp_path / "link.json").is_symlink()
    assert read_transcript(tmp_path / "real.json").messages == MESSAGES
