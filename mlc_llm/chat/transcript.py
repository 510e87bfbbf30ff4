"""The messages of a conversation in a file.

The file is a JSON object:

- ``version``: 2, the version of this format; version 1, which has no ``token_ids``, is read too;
- ``model``: the name of the model;
- ``messages``: the conversation in OpenAI's form, objects with ``role`` and ``content``. The first
  is the system message where one is set and the model's template has a place for it. A generated
  answer may have its ``token_ids``; other fields of messages, such as ``tool_calls``, are kept.

Unknown fields of the file are ignored. If you edit a message, you may leave its ``token_ids``:
those that do not spell the content are not used, see
:func:`mlc_llm.conversation.spelling.is_spelling`.
"""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlc_llm.conversation import Message
from mlc_llm.errors import SavedChatError
from mlc_llm.files import atomic_file, read_json_object
from mlc_llm.weights.paths import exists, is_file

VERSION = 2
_READ = (1, VERSION)


@dataclass(frozen=True)
class Transcript:
    """A conversation.

    Args:
        model: the name of the model; empty where the file does not say.
        messages: its messages.
    """

    model: str
    messages: tuple[Message, ...]

    @property
    def turns(self) -> int:
        """Number of messages that are not system messages."""
        return sum(message.role != "system" for message in self.messages)


def write_transcript(path: Path, transcript: Transcript) -> None:
    """Write a conversation; an existing file is replaced only if it is a conversation too.

    Raises:
        SavedChatError: the file cannot be written, or something else is there.
    """
    there = exists(path, SavedChatError)
    path = Path(os.path.realpath(path))
    if there:
        try:
            read_transcript(path)
        except SavedChatError as error:
            raise SavedChatError(
                f"Something else is there, which stays as it is: {error}", code="path-taken"
            ) from None
    try:
        # Half of a surrogate pair, as in the name of a folder, becomes JSON's own escape.
        with atomic_file(path, private=True) as file:
            file.write(_text(transcript).encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise SavedChatError(
            f"{path} cannot be written: {error.strerror or error}.", code="file-unwritable"
        ) from None


def read_transcript(path: Path) -> Transcript:
    """Read a conversation. Whether the ``token_ids`` are right is for the caller to check.

    Raises:
        SavedChatError: the file cannot be read, or is not a conversation; the message says where.
    """
    if exists(path, SavedChatError) and not is_file(path, SavedChatError):
        raise SavedChatError(f"{path} is not a file.", code="file-unreadable")
    data = read_json_object(path, SavedChatError)
    version, model, messages = (data.get(name) for name in ("version", "model", "messages"))
    if type(version) is not int or not isinstance(messages, list):
        raise SavedChatError(
            f"{path} is not a saved conversation: that is an object with version and messages."
        )
    if version not in _READ:
        raise SavedChatError(
            f"{path} has version {version} of the format; this mlc_llm reads the versions "
            f"{' and '.join(map(str, _READ))}.",
            code="saved-chat-version",
        )
    read = (
        _message(message, f"{path}, message {n}", has_tokens=version > 1)
        for n, message in enumerate(messages, 1)
    )
    return Transcript(model if isinstance(model, str) else "", tuple(read))


def _message(message: Any, where: str, has_tokens: bool) -> Message:
    if not isinstance(message, dict):
        raise SavedChatError(
            f"{where} is {reprlib.repr(message)}, not an object with role and content."
        )
    for name in ("role", "content"):
        if not isinstance(message.get(name), str):
            raise SavedChatError(
                f"{where}: {name} must be text; it is {reprlib.repr(message.get(name))}."
            )
    token_ids = message.get("token_ids") if has_tokens else None
    known = message if has_tokens else {name: message[name] for name in ("role", "content")}
    given = Message.of({**known, "token_ids": None})
    if token_ids is None:
        return given
    if not isinstance(token_ids, list) or any(type(token) is not int for token in token_ids):
        raise SavedChatError(
            f"{where}: token_ids must be a list of whole numbers; it is {reprlib.repr(token_ids)}."
        )
    return replace(given, token_ids=tuple(token_ids))


def _text(transcript: Transcript) -> str:
    """The file's text, in which the tokens of a message stand on one line."""
    messages = (_object(_fields(message), "    ") for message in transcript.messages)
    fields = {
        "version": str(VERSION),
        "model": _json(transcript.model),
        "messages": _block("[", messages, "]", "  "),
    }
    return f"{_object(fields, '')}\n"


def _fields(message: Message) -> dict[str, str]:
    fields = {"role": _json(message.role), "content": _json(message.content)}
    if message.token_ids is not None:
        fields["token_ids"] = _json(message.token_ids)
    others = {name: item for name, item in message.more.items() if name not in fields}
    return fields | {name: _json(item) for name, item in others.items()}


def _object(fields: dict[str, str], indent: str) -> str:
    """A JSON object of fields whose values are JSON already."""
    return _block("{", (f"{_json(name)}: {value}" for name, value in fields.items()), "}", indent)


def _block(begin: str, items: Iterable[str], end: str, indent: str) -> str:
    """JSON with each item on a line of its own."""
    lines = [f"\n{indent}  {item}" for item in items]
    return f"{begin}{','.join(lines)}\n{indent}{end}" if lines else begin + end


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
