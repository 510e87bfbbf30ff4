"""Blocks of GGUF's types of integer codes, taken apart into codes and factors.

A row of a matrix is a sequence of blocks. Each function takes blocks (n, bytes), uint8, and gives
their codes (n, weights), uint8, and their factors (n, factors of a block), which are what the
type's :class:`~mlc_llm.plugin.Scheme` stores beside the codes. No number changes: a code that the
type takes as signed is raised by the scheme's zero, and a minimum that the type subtracts has its
sign turned.

The layouts are those of llama.cpp (``ggml/src/ggml-common.h``, MIT licence); ``d`` is a float16,
and the first bytes come first:

======= ==================================================================================
Q4_0    d; 16 bytes, the lower halves are weights 0 to 15, the upper ones 16 to 31
Q4_1    d, minimum; codes as of Q4_0
Q5_0    d; 32 upper bits, one a weight; codes as of Q4_0
Q5_1    d, minimum; upper bits; codes
Q8_0    d; 32 signed bytes
Q4_K    d, d of the minimums; 8 scales and 8 minimums of 6 bits in 12 bytes; 4 times 32 bytes,
        whose lower halves are 32 weights and upper ones the next 32
Q5_K    as Q4_K, and before the codes 32 bytes, whose bit i belongs to group i of 32 weights
Q6_K    lower halves of 2 times 128 codes in 64 bytes, their upper 2 bits in 32 bytes, 16 signed
        scales, d
MXFP4   an exponent; 16 bytes as of Q4_0, each half a float of 4 bits (OCP Microscaling, v1.0)
IQ4_NL  d; 16 bytes as of Q4_0, each half the number of one of 16 values
IQ4_XS  d; upper 2 bits of 8 scales, their lower 4 bits; codes as of Q4_K, in halves of 16 bytes
======= ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[np.generic]
Parts = tuple[Bytes, list[Array]]
Unpack = Callable[[Bytes], Parts]

FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)
"""Twice the values of a float with one bit of mantissa and two of exponent."""
FP4_ZERO = 12
"""What is added to make them codes."""

IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)
"""The values of IQ4_NL and IQ4_XS."""


def q4_0(blocks: Bytes) -> Parts:
    return _halves(blocks[:, 2:]), [_half_float(blocks, 0)]


def q4_1(blocks: Bytes) -> Parts:
    return _halves(blocks[:, 4:]), [_half_float(blocks, 0), _half_float(blocks, 2)]


def q5_0(blocks: Bytes) -> Parts:
    return _halves(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6]), [_half_float(blocks, 0)]


def q5_1(blocks: Bytes) -> Parts:
    codes = _halves(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return codes, [_half_float(blocks, 0), _half_float(blocks, 2)]


def q8_0(blocks: Bytes) -> Parts:
    return blocks[:, 2:] ^ np.uint8(128), [_half_float(blocks, 0)]


def q4_k(blocks: Bytes) -> Parts:
    return _halves_in_turn(blocks[:, 16:], 32), _two_levels(blocks)


def q5_k(blocks: Bytes) -> Parts:
    groups = np.arange(8, dtype=np.uint8)[:, None]
    fifth: Bytes = (blocks[:, None, 16:48] >> groups) & np.uint8(1)
    lower = _halves_in_turn(blocks[:, 48:], 32)
    return lower | (fifth << np.uint8(4)).reshape(lower.shape), _two_levels(blocks)


def q6_k(blocks: Bytes) -> Parts:
    lower = _halves_in_turn(blocks[:, :128], 64)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    upper: Bytes = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts) & np.uint8(3)
    scales = blocks[:, 192:208].view(np.int8)
    return lower | (upper << np.uint8(4)).reshape(lower.shape), [scales, _half_float(blocks, 208)]


def mxfp4(blocks: Bytes) -> Parts:
    """The scale is 2 ** (exponent - 128), half of the type's own, as float32."""
    scale = np.ldexp(np.float32(1), blocks[:, :1].astype(np.int32) - 128)
    return _looked_up(FP4, FP4_ZERO, _halves(blocks[:, 1:])), [scale]


def iq4_nl(blocks: Bytes) -> Parts:
    return _looked_up(IQ4, 128, _halves(blocks[:, 2:])), [_half_float(blocks, 0)]


def iq4_xs(blocks: Bytes) -> Parts:
    """The scales are the products of both levels, as float32, which holds them exactly."""
    upper = blocks[:, 2:4].copy().view("<u2") >> np.arange(0, 16, 2, dtype=np.uint16)
    lower = np.stack([blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4], axis=2).reshape(-1, 8)
    signed = (lower | ((upper & 3) << 4)).astype(np.int32) - 32
    scales = _half_float(blocks, 0).astype(np.float32) * signed.astype(np.float32)
    codes = _halves_in_turn(blocks[:, 8:], 16)
    return _looked_up(IQ4, 128, codes), [scales]


def _half_float(blocks: Bytes, at: int) -> Array:
    """The float16 at a place of each block: (n, 1)."""
    return blocks[:, at : at + 2].copy().view("<f2")


def _halves(packed: Bytes) -> Bytes:
    """The lower halves of all bytes, then the upper ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _halves_in_turn(packed: Bytes, each: int) -> Bytes:
    """The same of every ``each`` bytes in turn."""
    halves = _halves(packed.reshape(-1, each))
    return halves.reshape(len(packed), 2 * packed.shape[1])


def _fifth_bits(packed: Bytes) -> Bytes:
    """Bits (n, 4 bytes), one for each of 32 codes, in the place of a code's fifth."""
    return np.unpackbits(packed, axis=1, bitorder="little") << np.uint8(4)


def _two_levels(blocks: Bytes) -> list[Array]:
    """Scales, their float, minimums and theirs, of Q4_K and Q5_K.

    The first 4 bytes have scales 0 to 3 in their lower 6 bits, the next 4 the minimums. The last 4
    have the lower 4 bits of scales 4 to 7 and, above them, of those minimums, whose upper 2 bits
    are the uppermost of the first 8 bytes.
    """
    first, second, third = (blocks[:, at : at + 4] for at in (4, 8, 12))
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=1)
    minimums = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=1)
    return [
        scales.view(np.int8),
        _half_float(blocks, 0),
        minimums.view(np.int8),
        np.negative(_half_float(blocks, 2)),
    ]


def _looked_up(values: npt.NDArray[np.int8], zero: int, codes: Bytes) -> Bytes:
    """The values that codes stand for, raised to be codes themselves."""
    table = (values.astype(np.int16) + zero).astype(np.uint8)
    raised: Bytes = table[codes]
    return raised
