"""What is wrong with a configuration, in sentences that name the field and the value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from mlc_llm.errors import unknown
from mlc_llm.shown import shown

_MOST = 5
"""Errors that a message tells of."""

UNKNOWN_FIELD = ("extra_forbidden", "no_such_attribute")
"""What pydantic calls a field that there is not, at construction and at assignment."""


def explain(error: ValidationError, kind: str, known: Iterable[str]) -> str:
    """A sentence for each of the first errors that pydantic found, and how many more there are.

    Args:
        error: what pydantic found.
        kind: what was validated, such as ``"ChatConfig"``; empty where the reader knows.
        known: the names of the fields that may be given.
    """
    known = list(known)
    found = error.errors()
    sentences = [_sentence(item, kind, known) for item in found[:_MOST]]
    if len(found) > _MOST:
        sentences.append(f"There are {len(found) - _MOST} more such errors.")
    return " ".join(sentences)


def _sentence(item: Any, kind: str, known: list[str]) -> str:
    where = ".".join(_place(part) for part in item["loc"])
    named = ".".join(filter(None, (kind, where)))
    if item["type"] in UNKNOWN_FIELD:
        return unknown(f"{kind} field".strip(), where, known)
    if item["type"] == "missing":
        return f"{named} is needed and not there."
    message = str(item["msg"]).removeprefix("Value error, ").rstrip(".")
    given = "" if isinstance(item["input"], dict) else f", not {shown(item['input'])}"
    if item["type"] == "value_error":
        # Our own messages go on after the field's name, or are sentences by themselves.
        follows = message.startswith(("is ", "must "))
        return f"{named} {message}{given}." if follows else f"{message}."
    return f"{named}: {message}{given}."


def _place(part: str | int) -> str:
    """A step of the way to a value: a field's name, a key, or an index."""
    return part if isinstance(part, str) and len(part) <= 100 else shown(part)
