"""A conversation in a file, as ``/save`` writes it and ``/load`` reads it.

The file is a JSON object:

- ``version``: 1, the version of this format;
- ``model``: what the user named as the model;
- ``messages``: the conversation in OpenAI's form, objects with ``role`` and ``content``. The first
  is the system message where the model's template has a place for one.

Unknown fields are ignored. The tokens of the answers are not kept: they belong to one tokenizer,
and text does not.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlc_llm.errors import MLCError
from mlc_llm.weights.atomic import write_atomically
from mlc_llm.weights.json_file import read_json_object

VERSION = 1


@dataclass(frozen=True)
class Transcript:
    """A conversation.

    Args:
        model: what the user named as the model; empty where the file does not say.
        messages: its messages, mappings with ``role`` and ``content``.
    """

    model: str
    messages: tuple[dict[str, str], ...]

    @property
    def system_message(self) -> str | None:
        """Its system messages as one text; None when there is none."""
        texts = [message["content"] for message in self.messages if message["role"] == "system"]
        return "\n\n".join(texts) if texts else None

    @property
    def turns(self) -> int:
        """How many messages are no system messages."""
        return sum(message["role"] != "system" for message in self.messages)


def write_transcript(path: Path, transcript: Transcript) -> None:
    """Write a conversation; a file that is there is replaced only if it is one, too.

    Raises:
        MLCError: the file cannot be written, or something else is there.
    """
    path = Path(os.path.realpath(path))
    if path.exists():
        try:
            read_transcript(path)
        except MLCError as error:
            raise MLCError(f"Something else is there, which stays as it is: {error}") from None
    text = json.dumps({"version": VERSION, **asdict(transcript)}, indent=2, ensure_ascii=False)
    try:
        write_atomically(path, f"{text}\n".encode())
    except OSError as error:
        raise MLCError(f"{path} cannot be written: {error.strerror or error}.") from None


def read_transcript(path: Path) -> Transcript:
    """Read a conversation.

    Raises:
        MLCError: the file cannot be read, or is no conversation; the message says where.
    """
    if path.exists() and not path.is_file():
        raise MLCError(f"{path} is no file.")
    data = read_json_object(path, MLCError)
    version, model, messages = (data.get(name) for name in ("version", "model", "messages"))
    if type(version) is not int or not isinstance(messages, list):
        raise MLCError(
            f"{path} is no saved conversation: that is an object with version and messages."
        )
    if version != VERSION:
        raise MLCError(
            f"{path} has version {version} of the format; this mlc_llm reads version {VERSION}."
        )
    read = (_message(message, f"{path}, message {n}") for n, message in enumerate(messages, 1))
    return Transcript(model if isinstance(model, str) else "", tuple(read))


def _message(message: Any, where: str) -> dict[str, str]:
    if not isinstance(message, dict):
        raise MLCError(f"{where} is {json.dumps(message)}, not an object with role and content.")
    for name in ("role", "content"):
        if not isinstance(message.get(name), str):
            raise MLCError(f"{where}: {name} is to be text; it is {json.dumps(message.get(name))}.")
    return {"role": message["role"], "content": message["content"]}
