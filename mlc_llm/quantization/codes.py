"""Integer codes in words, as :class:`mlc_llm.plugin.scheme.Scheme` describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import QuantizationError
from mlc_llm.plugin.scheme import Scheme

Array = npt.NDArray[np.generic]
Codes = npt.NDArray[np.unsignedinteger[Any]]


def pack_codes(codes: Array, scheme: Scheme) -> list[Array]:
    """Pack integer codes without rounding anything.

    Args:
        codes: the codes (rows, columns), of an integer dtype; those of whole groups past the end
            of a row are 0.
        scheme: how to store them.

    Returns:
        ``q_weight`` and, where codes have two planes, ``q_high``, with rows on the first axis
        whatever the scheme's layout.

    Raises:
        QuantizationError: they are not a matrix, or one is not a code of the scheme.
    """
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise QuantizationError(
            f"Codes must be a matrix of integers, not of {codes.dtype} with the shape "
            f"{codes.shape}."
        )
    if codes.size and (codes.min() < 0 or codes.max() >= 1 << scheme.bits):
        raise QuantizationError(
            f"Codes of {scheme.bits} bits must be from 0 to {(1 << scheme.bits) - 1}, not from "
            f"{codes.min()} to {codes.max()}."
        )
    rows, columns = codes.shape
    padded = np.zeros((rows, scheme.groups(columns) * scheme.group), np.uint8)
    padded[:, :columns] = codes
    return pack_planes(padded, scheme)


def unpack_codes(planes: Sequence[Array], columns: int, scheme: Scheme) -> Codes:
    """The codes (rows, columns), uint8, that :func:`pack_codes` packed."""
    return unpack_planes(planes, scheme)[:, :columns]


def pack_planes(codes: Codes, scheme: Scheme) -> list[Array]:
    """As :func:`pack_codes`, of codes (rows, whole groups) that are known to be right."""
    planes, shift = [], 0
    for bits in scheme.planes:
        plane = codes
        if len(scheme.planes) > 1:
            plane = (codes >> np.uint8(shift)) & np.uint8((1 << bits) - 1)
        planes.append(_pack(plane, bits).astype(scheme.storage, copy=False))
        shift += bits
    return planes


def unpack_planes(planes: Sequence[Array], scheme: Scheme) -> Codes:
    """The codes (rows, whole groups), uint8, of the words of each plane."""
    codes, shift = _unpack(planes[0], scheme.planes[0]), scheme.planes[0]
    for words, bits in zip(planes[1:], scheme.planes[1:], strict=True):
        codes = codes | _unpack(words, bits) << np.uint8(shift)
        shift += bits
    return codes


def _pack(codes: Codes, bits: int) -> Array:
    """Codes (n, m) of some bits to uint32 words, the first code in the lowest bits."""
    if 8 % bits == 0:
        return _pack_bytes(np.ascontiguousarray(codes), bits).view("<u4")
    count = 32 // bits
    words = codes[:, 0::count].astype(np.uint32)
    for place in range(1, count):
        words |= codes[:, place::count].astype(np.uint32) << np.uint32(place * bits)
    return words


def _pack_bytes(codes: Codes, bits: int) -> Codes:
    """Codes of 1, 2, 4 or 8 bits to bytes: neighbours become one, until bytes are full."""
    while bits < 8:
        pairs = codes.view("<u2")
        codes = (pairs | pairs >> np.uint16(8 - bits)).astype(np.uint8)
        bits *= 2
    return codes


def _unpack(words: Array, bits: int) -> Codes:
    """What :func:`_pack` packed, as uint8."""
    if 8 % bits == 0:
        units: Codes = np.ascontiguousarray(words, "<u4").view(np.uint8)
    else:
        units = words.astype(np.uint32)
    kind = units.dtype.type
    shifts = np.arange(8 * units.itemsize // bits, dtype=kind) * kind(bits)
    codes = (units[:, :, None] >> shifts) & kind((1 << bits) - 1)
    return codes.astype(np.uint8, copy=False).reshape(len(words), -1)
