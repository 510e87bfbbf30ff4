"""Damaging bytes: what a bad disk, a broken download or a hostile sender does to them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzz.mutation.odd_values import TEXTS

_SIZES = (0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1)


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Change a few places of some bytes.

    Args:
        content: the bytes.
        random: decides where and how.
    """
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5))):
        random.choices(_CHANGES, _OFTEN)[0](data, random)
    return bytes(data)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, random: Random) -> None:
    if data:
        begin = random.randrange(len(data))
        length = min(random.choice((1, 4, 16)), len(data) - begin)
        data[begin : begin + length] = random.randbytes(length)


def _cut(data: bytearray, random: Random) -> None:
    """What is cut short is most often cut near an end."""
    near = random.choice((0, len(data), random.randrange(len(data) + 1)))
    del data[max(0, near + random.randrange(-9, 10)) :]


def _delete(data: bytearray, random: Random) -> None:
    begin = random.randrange(len(data) + 1)
    del data[begin : begin + random.choice((1, 2, 8, 100))]


def _repeat(data: bytearray, random: Random) -> None:
    begin = random.randrange(len(data) + 1)
    piece = data[begin : begin + random.choice((1, 8, 100))]
    at = random.randrange(len(data) + 1)
    data[at:at] = piece * random.choice((1, 2, 100))


def _size(data: bytearray, random: Random) -> None:
    """A number in binary, such as a length, at a place where one may stand."""
    width = random.choice((1, 2, 4, 8))
    at = random.choice((0, 4, 8, 16, random.randrange(len(data) + 1)))
    number = random.choice(_SIZES) % (1 << 8 * width)
    data[at : at + width] = number.to_bytes(width, "little")


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    text = random.choice(TEXTS).encode("utf-8", "surrogatepass")
    data[at:at] = (
        text if random.random() < 0.8 else random.choice((b"\xff\xfe", b"\xc0\x80", b"\0"))
    )


_CHANGES: tuple[Callable[[bytearray, Random], None], ...]
_CHANGES = (_flip, _overwrite, _cut, _delete, _repeat, _size, _insert)
_OFTEN = (6, 3, 3, 2, 2, 3, 1)
