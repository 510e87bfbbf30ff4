"""Compilation options, which are written as one string."""

from __future__ import annotations

from mlc_llm.errors import ConfigError


def parse_options(text: str) -> dict[str, str]:
    """Compilation options, ``"name=value,name=value"``, by name in sorted order.

    Raises:
        ConfigError: the text is not of that form, or names an option twice.
    """
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"Compilation option {part!r} is not of the form name=value.")
        if name in options:
            raise ConfigError(f"Compilation option {name!r} is given twice.")
        options[name] = value
    return dict(sorted(options.items()))
