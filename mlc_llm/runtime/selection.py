"""Selecting from many weights without sorting them.

A vocabulary has some 100 000 tokens, and every pass over it costs 10 to 60 microseconds, a sort
more than all of them. So :func:`top` sorts only what may be among the largest, and
:func:`draw_nucleus` draws from the nucleus without finding it.

Where weights are equal, those of lower index come first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

_COLUMNS = 1024
"""Columns of the matrix that a vector is taken as: NumPy reduces along its rows fastest."""

_SPARSE = 64
"""Where fewer than one in this many are selected, gathering them beats passing over everything."""


def top(weights: Floats, count: int) -> Indices:
    """The indices, ascending, of the ``count`` largest weights.

    Args:
        weights: shape (n,), of any sign.
        count: from 1 to n.
    """
    columns = max(_COLUMNS, 4 * count)
    if 4 * columns > weights.size:
        return _largest(weights, _kth(weights, count), count)
    # At least ``count`` weights reach the ``count``-th largest of the columns' maxima.
    maxima = weights[: weights.size - weights.size % columns].reshape(-1, columns).max(axis=0)
    likely = np.flatnonzero(weights >= _kth(maxima, count))
    weights = weights[likely]
    selected: Indices = likely[_largest(weights, _kth(weights, count), count)]
    return selected


def draw_nucleus(weights: Floats, share: float, least: float, random: Callable[[], float]) -> int:
    """Draw from the nucleus, the fewest largest weights that sum up to a share of all.

    An index drawn from all weights is in the nucleus exactly when the weights before it, the
    largest first, do not reach the share yet. Otherwise it is drawn again, from those that are
    before it; the nucleus is among them. What is drawn in the end is distributed as the nucleus is.
    Each draw takes a few passes, however flat the weights are, and few are needed: one more in
    twenty for a share of 95%.

    Args:
        weights: shape (n,), none negative, not all zero; may be overwritten.
        share: above 0, at most 1.
        least: of the nucleus, weights below this are left out; at most the largest weight.
        random: gives uniform numbers, at least 0 and below 1.
    """
    sums = RunningSums(weights)
    mass = share * sums.total
    kept: Indices | None = None
    while True:
        index = sums.index(random())
        if weights[index] < least:
            narrower = weights >= np.float32(least)
        elif share == 1.0:
            break
        else:
            narrower = _before(weights, index)
            if _masked_sum(weights, narrower) < mass or not narrower.any():
                break
        if _is_sparse(narrower):
            likely = np.flatnonzero(narrower)
            kept = likely if kept is None else kept[likely]
            weights = weights[likely]
        else:
            np.multiply(weights, narrower, out=weights)
        sums = RunningSums(weights)
    return index if kept is None else int(kept[index])


def _before(weights: Floats, index: int) -> Mask:
    """Which weights come before one: the larger ones, and equal ones of lower index."""
    before = np.empty(weights.size, np.bool_)
    np.greater_equal(weights[:index], weights[index], out=before[:index])
    np.greater(weights[index:], weights[index], out=before[index:])
    return before


def _masked_sum(weights: Floats, mask: Mask) -> float:
    if _is_sparse(mask):
        return float(weights[np.flatnonzero(mask)].sum())
    # NumPy's own loop: its dot product would start BLAS's threads, which disturb TVM's.
    return float(np.einsum("i,i->", weights, mask))


def _is_sparse(mask: Mask) -> bool:
    return bool(np.count_nonzero(mask) * _SPARSE < mask.size)


class RunningSums:
    """The cumulative distribution of weights, for drawing from it.

    A running sum over all weights is slow and, in float32, inexact. One over the columns' sums and
    one within the column that is found are neither; so the order in which weights are summed up is
    column by column.

    Args:
        weights: shape (n,), none negative, not all zero.
    """

    def __init__(self, weights: Floats) -> None:
        whole = weights.size - weights.size % _COLUMNS
        self._matrix = weights[:whole].reshape(-1, _COLUMNS)
        self._rest = weights[whole:]
        sums = np.empty(_COLUMNS + 1)
        sums[:-1] = self._matrix.sum(axis=0)
        sums[-1] = self._rest.sum(dtype=np.float64)
        self._sums = np.cumsum(sums, out=sums)

    @property
    def total(self) -> float:
        """The sum of all weights."""
        return float(self._sums[-1])

    def index(self, uniform: float) -> int:
        """The first index up to which the weights sum up to more than this share of all.

        Args:
            uniform: at least 0, below 1.
        """
        target = uniform * self.total
        column = _first_above(self._sums, target)
        before = float(self._sums[column - 1]) if column else 0.0
        if column == _COLUMNS:
            running = np.cumsum(self._rest, dtype=np.float64)
            return self._matrix.size + _first_above(running, target - before)
        running = np.cumsum(self._matrix[:, column], dtype=np.float64)
        return column + _COLUMNS * _first_above(running, target - before)


def _first_above(running: npt.NDArray[np.float64], target: float) -> int:
    """The first index of a running sum that exceeds the target."""
    index = int(np.searchsorted(running, target, side="right"))
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
