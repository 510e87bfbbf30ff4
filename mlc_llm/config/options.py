"""Compilation options, which are written as one string."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mlc_llm.errors import ConfigError, unknown
from mlc_llm.shown import shown


def parse_options(text: str) -> dict[str, str]:
    """Compilation options, ``"name=value,name=value"``, by name in sorted order.

    Raises:
        ConfigError: the text is not of that form, or names an option twice.
    """
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ConfigError(
                f"Compilation option {shown(part)} is not of the form name=value.",
                code="option-malformed",
            )
        if name in options:
            raise ConfigError(
                f"Compilation option {shown(name)} is given twice.", code="option-malformed"
            )
        options[name] = value
    return dict(sorted(options.items()))


def check_options(options: Mapping[str, str], known: Mapping[str, Collection[str]]) -> None:
    """Refuse options that a device does not have.

    Args:
        options: values by name; see :func:`parse_options`.
        known: the values that each option of the device may have.

    Raises:
        ConfigError: an option or its value is unknown.
    """
    for name, value in options.items():
        if name not in known:
            raise ConfigError(unknown("compilation option", name, known), code="option-unknown")
        if value not in known[name]:
            kind = f"value of the compilation option {name!r}"
            raise ConfigError(unknown(kind, value, known[name]), code="option-unknown")
