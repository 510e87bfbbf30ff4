"""Sentences with alternatives, from which the corpus is made.

``{a|b|}`` is one of the alternatives, which may hold alternatives themselves; ``$name`` is filled
in afterwards, so that what is filled in is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from string import Template


class Choice(tuple[tuple[object, ...], ...]):
    """Alternatives; each is a sequence of texts and choices."""

    __slots__ = ()


def say(rng: Random, patterns: str | Sequence[str], **slots: object) -> str:
    """Make one sentence.

    Args:
        rng: the source of all choices.
        patterns: a pattern, or several of which one is taken.
        slots: what ``$name`` stands for.

    Raises:
        ValueError: the braces of the pattern do not match.
        KeyError: a slot is not given.
    """
    pattern = patterns if isinstance(patterns, str) else rng.choice(patterns)
    text = _expand(_parse(pattern), rng)
    return Template(text).substitute(slots) if "$" in text else text


def _expand(nodes: tuple[object, ...], rng: Random) -> str:
    parts = []
    for node in nodes:
        if isinstance(node, Choice):
            parts.append(_expand(node[rng.randrange(len(node))], rng))
        else:
            parts.append(str(node))
    return "".join(parts)


@cache
def _parse(pattern: str) -> tuple[object, ...]:
    nodes, end = _sequence(pattern, 0, nested=False)
    if end != len(pattern):
        raise ValueError(f"A brace is closed that was not opened, at {end}: {pattern!r}")
    return nodes


def _sequence(pattern: str, start: int, *, nested: bool) -> tuple[tuple[object, ...], int]:
    """Parse up to the end of the pattern or, nested, up to a ``|`` or ``}``."""
    nodes: list[object] = []
    text = start
    position = start
    while position < len(pattern):
        character = pattern[position]
        if character == "{":
            nodes.append(pattern[text:position])
            choice, position = _choice(pattern, position)
            nodes.append(choice)
            text = position
        elif character == "}" or (nested and character == "|"):
            break
        else:
            position += 1
    nodes.append(pattern[text:position])
    return tuple(node for node in nodes if node != ""), position


def _choice(pattern: str, start: int) -> tuple[Choice, int]:
    alternatives = []
    position = start
    while position < len(pattern) and pattern[position] != "}":
        nodes, position = _sequence(pattern, position + 1, nested=True)
        alternatives.append(nodes)
    if position == len(pattern):
        raise ValueError(f"A brace is opened at {start} and not closed: {pattern!r}")
    return Choice(alternatives), position + 1
