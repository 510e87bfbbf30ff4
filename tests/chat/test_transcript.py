"""Saved conversations: what is written, what is read, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.chat.transcript import Transcript, read_transcript, write_transcript
from mlc_llm.conversation import Message
from mlc_llm.errors import SavedChatError
from mlc_llm.testing import raises

MESSAGES = (
    Message("system", "Be brief."),
    Message("user", "Übung\n😀"),
    Message("assistant", "", ()),
    Message("user", "And?"),
    Message("assistant", "So.", (12, 7, 300)),
)

TEXT = """{
  "version": 2,
  "model": "demo",
  "messages": [
    {
      "role": "system",
      "content": "Be brief."
    },
    {
      "role": "user",
      "content": "Übung\\n😀"
    },
    {
      "role": "assistant",
      "content": "",
      "token_ids": []
    },
    {
      "role": "user",
      "content": "And?"
    },
    {
      "role": "assistant",
      "content": "So.",
      "token_ids": [12, 7, 300]
    }
  ]
}
"""


def test_the_format(tmp_path: Path) -> None:
    """People can read it."""
    path = tmp_path / "conversation.json"
    write_transcript(path, Transcript("demo", MESSAGES))
    assert path.read_text(encoding="utf-8") == TEXT
    assert read_transcript(path) == Transcript("demo", MESSAGES)
    assert list(tmp_path.iterdir()) == [path]


messages = st.builds(
    Message, st.text(), st.text(), st.none() | st.lists(st.integers(), max_size=3).map(tuple)
)


@given(st.text(), st.lists(messages, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: Any, model: str, messages: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any-conversation.json"
    path.unlink(missing_ok=True)
    transcript = Transcript(model, tuple(messages))
    write_transcript(path, transcript)
    assert read_transcript(path) == transcript
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert [message["content"] for message in whole["messages"]] == [m.content for m in messages]


def test_a_model_whose_name_is_no_text(tmp_path: Path) -> None:
    """As of a folder whose name is not UTF-8."""
    write_transcript(tmp_path / "c.json", Transcript("\udcff", MESSAGES))
    assert read_transcript(tmp_path / "c.json").model == "\udcff"


@pytest.mark.parametrize(
    "text", ["\ud800", "\\\ud800", '\udcff"', "a\udc80\ud83db", "\ud83d\ude00"]
)
def test_halves_of_surrogate_pairs_are_saved(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    write_transcript(path, Transcript(text, (Message("user", text), Message(text, ""))))
    read = read_transcript(path)
    # Two halves that follow each other become one character.
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert (read.model, read.messages[0].content, read.messages[1].role) == (whole,) * 3


def test_the_version_before(tmp_path: Path) -> None:
    """It has no tokens; unknown fields are ignored."""
    path = tmp_path / "c.json"
    message = {"role": "user", "content": "Hi", "name": "x", "token_ids": "anything"}
    path.write_text(json.dumps({"version": 1, "messages": [message], "saved": "today"}))
    assert read_transcript(path) == Transcript("", (Message("user", "Hi"),))
    write_transcript(path, Transcript("demo", MESSAGES))
    assert read_transcript(path).messages == MESSAGES


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        ("", "file-empty", ""),
        ("[" * 100_000, "json-malformed", ""),
        ("\udcff", "json-malformed", ""),
        ("[]", "json-malformed", "list"),
        ("{}", "saved-chat-invalid", "version"),
        ('{"version": 1}', "saved-chat-invalid", "version"),
        ('{"version": true, "messages": []}', "saved-chat-invalid", "version"),
        ('{"version": 3, "messages": []}', "saved-chat-version", "version 3"),
        ('{"version": 1, "messages": [1]}', "saved-chat-invalid", "message 1 is 1"),
        ('{"version": 1, "messages": [{"role": "user"}]}', "saved-chat-invalid", "1: content"),
        ('{"version": 1, "messages": [{"role": 1, "content": ""}]}', "saved-chat-invalid", "role"),
    ],
)
def test_what_is_no_conversation(tmp_path: Path, content: str, code: str, named: str) -> None:
    """It is not read, and not overwritten."""
    path = tmp_path / "c.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    before = path.read_bytes()
    with raises(code, path, named, error=SavedChatError):
        read_transcript(path)
    with raises("path-taken", path, named, error=SavedChatError):
        write_transcript(path, Transcript("demo", MESSAGES))
    assert path.read_bytes() == before


@pytest.mark.parametrize("ids", ['"1"', "1", "[true]", "[1.0]", "[NaN]", "[[]]", "{}"])
def test_tokens_that_are_none(tmp_path: Path, ids: str) -> None:
    path, message = tmp_path / "c.json", f'{{"role": "", "content": "", "token_ids": {ids}}}'
    path.write_text(f'{{"version": 2, "messages": [{message}]}}')
    with raises("saved-chat-invalid", "message 1: token_ids"):
        read_transcript(path)


def test_messages_are_not_shown_whole(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"version": 2, "messages": [["x" * 10_000]]}))
    with raises("saved-chat-invalid", path) as caught:
        read_transcript(path)
    assert len(str(caught.value)) < 300


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with raises("file-unreadable", tmp_path / "absent.json", error=SavedChatError):
        read_transcript(tmp_path / "absent.json")
    with raises("file-unreadable", tmp_path, error=SavedChatError):
        read_transcript(tmp_path)
    with raises("file-unreadable", os.devnull, error=SavedChatError):
        read_transcript(Path(os.devnull))
    with raises("path-taken", tmp_path):
        write_transcript(tmp_path, Transcript("demo", MESSAGES))
    with raises("file-unwritable", tmp_path / "absent", error=SavedChatError):
        write_transcript(tmp_path / "absent" / "c.json", Transcript("demo", MESSAGES))


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_transcript(tmp_path / "link.json", Transcript("demo", MESSAGES))
    assert (tmp_path / "link.json").is_symlink()
    assert read_transcript(tmp_path / "real.json").messages == MESSAGES
