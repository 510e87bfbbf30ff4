"""Selecting from many weights without sorting them all.

A model's distribution is peaked: almost all of its mass is in a few of some 100 000 tokens. So one
pass over the weights finds the few that matter, and only those are sorted. Where weights are equal,
those of lower index come first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

_BLOCK = 512
_FEW = 4096
"""So few weights are sorted at once; it costs less than a pass that narrows them down."""


def top(weights: Floats, count: int) -> Indices:
    """The indices, ascending, of the ``count`` largest weights.

    Args:
        weights: shape (n,), of any sign.
        count: from 1 to n.
    """
    blocks = weights[: weights.size - weights.size % _BLOCK].reshape(-1, _BLOCK)
    if count > len(blocks) // 2:
        return _largest(weights, _kth(weights, count), count)
    # At least ``count`` weights reach the ``count``-th largest of the blocks' maxima.
    likely = np.flatnonzero(weights >= _kth(blocks.max(axis=1), count))
    weights = weights[likely]
    selected: Indices = likely[_largest(weights, _kth(weights, count), count)]
    return selected


def nucleus(weights: Floats, share: float) -> Indices:
    """The indices, ascending, of the fewest largest weights that sum up to a share of all.

    Args:
        weights: shape (n,), none negative, not all zero.
        share: above 0, at most 1.
    """
    target = share * float(weights.sum())
    if weights.size <= _FEW:
        return _nucleus_of_mass(weights, target)
    sample = weights[:: weights.size // 256]
    likely = np.flatnonzero(weights > _kth(sample, 4))
    heavy = weights[likely]
    if float(heavy.sum()) < target:
        return _nucleus_of_mass(weights, target)
    selected: Indices = likely[_nucleus_of_mass(heavy, target)]
    return selected


def draw(weights: Floats, uniform: float) -> int:
    """The index that a uniform number selects, each with a probability as its weight.

    Args:
        weights: shape (n,), none negative, not all zero.
        uniform: at least 0, below 1.
    """
    return _reaches(weights, uniform, "right")


def _nucleus_of_mass(weights: Floats, target: float) -> Indices:
    descending = np.sort(weights)[::-1]
    total = float(weights.sum())
    last = _reaches(descending, target / total, "left")
    return _largest(weights, descending[last], last + 1)


def _reaches(weights: Floats, share: float, side: Literal["left", "right"]) -> int:
    """The first index up to which the weights sum up to a share of all.

    A running sum over all of them is slow and, in float32, inexact; one over the sums of blocks
    and one within the block that is found are neither.

    Args:
        weights: shape (n,), none negative, not all zero.
        share: from 0 to 1.
        side: whether the sum is to reach the share ("left") or to exceed it ("right").
    """
    starts = np.arange(0, weights.size, _BLOCK)
    sums = np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)
    target = share * float(sums[-1])
    block = _first(sums, target, side)
    start = int(starts[block])
    running = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
    before = float(sums[block - 1]) if block else 0.0
    return start + _first(running, target - before, side)


def _first(running: npt.NDArray[np.float64], target: float, side: Literal["left", "right"]) -> int:
    """The first index of a running sum that reaches or exceeds the target."""
    index = int(np.searchsorted(running, target, side=side))
    if index == running.size:
        # Rounding put the target at the very end; the last weight that adds anything is meant.
        index = int(np.searchsorted(running, running[-1]))
    return index


def _kth(values: Floats, count: int) -> np.float32:
    """The ``count``-th largest value."""
    kth: np.float32 = np.partition(values, values.size - count)[values.size - count]
    return kth


def _largest(weights: Floats, floor: np.float32, count: int) -> Indices:
    """The indices of the weights down to ``floor``, of those equal to it only the first ones."""
    indices = np.flatnonzero(weights >= floor)
    excess = indices.size - count
    if excess <= 0:
        return indices
    return np.delete(indices, np.flatnonzero(weights[indices] == floor)[-excess:])
