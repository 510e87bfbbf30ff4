"""Random weights in any scheme, and the schemes that weights are read in and not quantised to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.plugin import Scheme
from mlc_llm.quantization.codes import pack_codes
from mlc_llm.quantization.packing import is_transposed

Array = npt.NDArray[Any]

READ_SCHEMES: Mapping[str, Scheme] = {
    "a zero in the middle": Scheme(4, "float16", group=32, zero=8),
    "signed bytes": Scheme(8, "float16", group=32, zero=128),
    "two planes": Scheme(5, "float16", group=32),
    "two levels": Scheme(4, "float16", group=32, super_group=64),
    "two planes and levels": Scheme(6, "float16", group=16, zero=32, super_group=32),
}
"""Schemes such as those of GGUF files, which no plan that has a name is made of."""


def random_tensors(
    random: np.random.Generator, rows: int, columns: int, scheme: Scheme, std: float = 0.5
) -> list[Array]:
    """The stored tensors of a random matrix of weights.

    Args:
        random: the source of randomness.
        rows: rows of the matrix.
        columns: its columns.
        scheme: how it is stored.
        std: about the standard deviation of the weights.

    Returns:
        The tensors of :func:`mlc_llm.plugin.scheme.stored_tensors`, in their order.
    """
    if scheme.is_float:
        weights = random.standard_normal((rows, columns), np.float32) * np.float32(std)
        return [weights.astype(scheme.dtype)]
    top = 2**scheme.bits - 1
    if scheme.zero is not None:  # spread evenly around it, if there are codes on both sides
        top = max(1, min(top, 2 * scheme.zero))
    step = std / math.sqrt(((top + 1) ** 2 - 1) / 12)
    codes = random.integers(0, top, (rows, columns), np.uint8, endpoint=True)
    factors = _factors(random, rows, columns, scheme, step)
    if scheme.has_minimum:
        factors += _factors(random, rows, columns, scheme, -step * top / 2)
    tensors = [*pack_codes(codes, scheme), *factors]
    return [np.ascontiguousarray(t.T) for t in tensors] if is_transposed(scheme) else tensors


def _factors(
    random: np.random.Generator, rows: int, columns: int, scheme: Scheme, mean: float
) -> list[Array]:
    """Scales or minimums of a mean: of two levels, the lower one and the upper one."""
    if not scheme.has_two_levels:
        return [_around(random, (rows, scheme.groups(columns)), mean, scheme.dtype)]
    lower = random.integers(32, 127, (rows, scheme.groups(columns)), np.int8, endpoint=True)
    upper = (rows, scheme.super_groups(columns))
    return [lower, _around(random, upper, mean / 79.5, scheme.dtype)]


def _around(random: np.random.Generator, shape: tuple[int, int], mean: float, dtype: str) -> Array:
    return (random.uniform(0.5, 1.5, shape) * mean).astype(dtype)
