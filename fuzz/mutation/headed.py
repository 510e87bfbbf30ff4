"""Damaging files that begin with a length and a JSON header, as safetensors files do."""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz.mutation.json_text import json_bytes, mutate_json
from fuzz.mutation.raw_bytes import mutate_bytes

_LENGTH_BYTES = 8


def mutate_headed(content: bytes, random: Random) -> bytes:
    """Change the header's JSON, with a length that says so or does not; or any bytes.

    Args:
        content: a uint64, a header of that many bytes, and data.
        random: decides how.
    """
    choice = random.random()
    if choice < 0.35:
        return mutate_bytes(content, random)
    length = int.from_bytes(content[:_LENGTH_BYTES], "little")
    header, data = content[_LENGTH_BYTES:][:length], content[_LENGTH_BYTES + length :]
    header = mutate_json(header, random)
    if choice < 0.9:
        length = len(header)
    if choice > 0.8:
        data = mutate_bytes(data, random)
    return length.to_bytes(_LENGTH_BYTES, "little") + header + data


def headed(header: Any, data: bytes) -> bytes:
    """A file of a header and data."""
    text = json_bytes(header)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text + data
