"""JSON as templates write it, of tools for the most part."""

from __future__ import annotations

import json
from typing import Any

from mlc_llm.conversation.jinja.budget import Budget, refuse

_WIDEST = 64
"""Characters of an indentation or a separator."""
_PER_UNIT = 6
"""Characters that JSON may need for one: ``\\u00e9``."""


def json_text(
    budget: Budget,
    value: Any,
    ensure_ascii: bool,
    indent: int | str | None,
    separators: tuple[str, str] | None,
    sort_keys: bool,
) -> str:
    """What ``json.dumps`` makes of a value. All of it counts as given text.

    Raises:
        TemplateError: it would cost too much.
        Exception: the value is not one that JSON has.
    """
    widths = [indent, *(separators or ())]
    sizes = [len(width) if isinstance(width, str) else width or 0 for width in widths]
    if any(size > _WIDEST for size in sizes):
        refuse(f"writes JSON with an indentation or a separator of more than {_WIDEST} characters")
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    if indent is None:
        budget.make(budget.weight(value) * (_PER_UNIT if ensure_ascii else 1))
        return encoder.encode(value)
    parts = []
    for part in encoder.iterencode(value):
        budget.step()
        budget.make(len(part))
        parts.append(part)
    return "".join(parts)
