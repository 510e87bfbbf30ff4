"""What bytes a token of a ``tokenizer.json`` stands for, from the file's ``decoder``.

Three decoders cover today's language models, and each gives every token fixed bytes (but for the
first, whose leading space is taken away):

- ``ByteLevel``: each character of a token is one byte, in GPT-2's printable alphabet;
- the sequence that SentencePiece models are converted to: perhaps ``Replace`` of the space
  symbol, ``ByteFallback`` (tokens ``<0x00>`` to ``<0xFF>`` are bytes), ``Fuse``, perhaps ``Strip``;
- ``Metaspace``: the space symbol is a space.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SPACE_SYMBOL = "\N{LOWER ONE EIGHTH BLOCK}"
"""What SentencePiece writes for a space."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@dataclass(frozen=True)
class PieceRule:
    """How tokens become bytes.

    Args:
        to_bytes: the bytes of a token's text.
        first: what is left of them where text begins.
    """

    to_bytes: Callable[[str], bytes]
    first: Callable[[bytes], bytes]


def piece_rule(decoder: Mapping[str, Any] | None) -> PieceRule | None:
    """The rule of a ``tokenizer.json``'s decoder, or None when it is none of those above."""
    steps = list(_steps(decoder)) if decoder else []
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return PieceRule(byte_level_bytes, _unchanged)
    if kinds == ["Metaspace"]:
        return _metaspace_rule(steps[0])
    replaces = bool(steps) and _is_space_replacement(steps[0])
    strips = bool(steps) and steps[-1] == _STRIP_ONE_SPACE
    if kinds[replaces : len(kinds) - strips] == ["ByteFallback", "Fuse"]:
        return PieceRule(
            fallback_bytes if replaces else _verbatim_or_byte,
            strip_one_space if strips else _unchanged,
        )
    return None


_STRIP_ONE_SPACE = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def fallback_bytes(token: str) -> bytes:
    """The bytes of a token with the space symbol, or of a byte token such as ``<0x0A>``."""
    return _verbatim_or_byte(token.replace(SPACE_SYMBOL, " "))


def byte_level_bytes(token: str) -> bytes:
    """The bytes of a token in GPT-2's alphabet; other text, as of added tokens, in UTF-8."""
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode("utf-8")


def strip_one_space(piece: bytes) -> bytes:
    """Take away the dummy prefix space."""
    return piece.removeprefix(b" ")


def _verbatim_or_byte(token: str) -> bytes:
    if match := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(match[1], 16)])
    return token.encode("utf-8")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 stands for itself, other bytes for U+0100 and on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in sorted(printable)}
    return alphabet | {chr(0x100 + rank): byte for rank, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _metaspace_rule(step: Mapping[str, Any]) -> PieceRule:
    symbol = step.get("replacement", SPACE_SYMBOL)
    prepends = step.get("prepend_scheme", "always") != "never" and step.get(
        "add_prefix_space", True
    )
    return PieceRule(
        lambda token: token.replace(symbol, " ").encode("utf-8"),
        _without_spaces if prepends else _unchanged,
    )


def _steps(decoder: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The decoder's steps, nested sequences flattened."""
    if decoder.get("type") == "Sequence":
        for step in decoder.get("decoders", []):
            yield from _steps(step)
    else:
        yield decoder


def _is_space_replacement(step: Mapping[str, Any]) -> bool:
    return step == {"type": "Replace", "pattern": {"String": SPACE_SYMBOL}, "content": " "}


def _unchanged(piece: bytes) -> bytes:
    return piece


def _without_spaces(piece: bytes) -> bytes:
    return piece.replace(b" ", b"")
