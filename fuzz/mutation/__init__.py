"""Damaging valid input: in its structure where that is known, and in its bytes."""

from __future__ import annotations

from random import Random

from fuzz.mutation.json_text import mutate_json
from fuzz.mutation.raw_bytes import mutate_bytes

__all__ = ["mutate_bytes", "mutate_file", "mutate_json"]

_OF_JSON_AS_BYTES = 0.15


def mutate_file(name: str, content: bytes, random: Random) -> bytes:
    """Damage a file as its name suggests.

    Args:
        name: the file's name.
        content: what it holds.
        random: decides how.
    """
    if name.endswith(".json") and random.random() > _OF_JSON_AS_BYTES:
        return mutate_json(content, random)
    return mutate_bytes(content, random)
