"""What the user enters: a message or a command, on one line or on several.

A command is a slash and a word at the very beginning: a space before it, or quotes around it, make
it part of a message. Text in triple quotes may have several lines; the quotes are not part of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

QUOTES = '"""'

_COMMAND = re.compile(r"/(?:[A-Za-z]+|\?)(?=\s|$)")
"""A second slash makes it a path, as in ``/etc/hosts``."""


@dataclass(frozen=True)
class Entry:
    """What was entered.

    Args:
        text: the message; for a command what follows it. Empty when there is none.
        command: the command with its slash, in lower case; None for a message.
    """

    text: str
    command: str | None = None

    @classmethod
    def of(cls, text: str) -> Entry:
        """Read what was entered."""
        command, rest = _split(text)
        return cls(_unquoted(rest.strip()), command)


def is_open(text: str) -> bool:
    """Whether the text is in triple quotes that are not closed yet, so that more lines follow."""
    rest = _split(text)[1].lstrip()
    return rest.startswith(QUOTES) and rest.count(QUOTES) % 2 == 1


def _split(text: str) -> tuple[str | None, str]:
    match = _COMMAND.match(text)
    return (match[0].lower(), text[match.end() :]) if match else (None, text)


def _unquoted(text: str) -> str:
    """The text without the quotes around all of it."""
    around = text.startswith(QUOTES) and text.endswith(QUOTES)
    if around and len(text) >= 2 * len(QUOTES) and text.count(QUOTES) == 2:
        return text[len(QUOTES) : -len(QUOTES)].strip("\r\n")
    return text
