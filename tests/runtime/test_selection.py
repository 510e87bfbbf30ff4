"""Selecting from many weights: few and many, flat and peaked, with and without equal ones."""

from __future__ import annotations

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st

from mlc_llm.runtime.selection import RunningSums, draw_nucleus, top

Floats = npt.NDArray[np.float32]


@pytest.fixture(params=[0.0, 1.0, 8.0], ids=lambda scale: f"scale{scale:.0f}")
def scale(request: pytest.FixtureRequest) -> float:
    value: float = request.param
    return value


@pytest.fixture(params=[5, 1024, 4097, 50_000])
def size(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    return value


@pytest.fixture(params=[False, True], ids=["distinct", "equal"])
def weights(request: pytest.FixtureRequest, scale: float, size: int) -> Floats:
    logits = np.random.default_rng(size).normal(scale=scale, size=size)
    if request.param:
        logits = np.rint(logits)
    return np.exp(logits - logits.max()).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 40, 300, 5000])
def test_top(weights: Floats, count: int) -> None:
    count = min(count, weights.size)
    expected = np.sort(np.argsort(-weights, kind="stable")[:count])
    np.testing.assert_array_equal(top(weights, count), expected)


class Draws:
    """Uniform numbers of which the first selects a given index."""

    def __init__(self, weights: Floats, index: int) -> None:
        self.count = 0
        position = list(order(weights.size)).index(index)
        running = np.cumsum(weights[order(weights.size)], dtype=np.float64)
        self._first = float((running[position] - weights[index] / 2) / running[-1])
        self._random = np.random.default_rng(index)

    def __call__(self) -> float:
        self.count += 1
        return self._first if self.count == 1 else float(self._random.random())


def order(size: int) -> npt.NDArray[np.intp]:
    """The order in which the weights are summed up: column by column of a matrix of 1024."""
    whole = size - size % 1024
    matrix = np.arange(whole).reshape(-1, 1024)
    return np.concatenate([matrix.T.reshape(-1), np.arange(whole, size)])


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("least", [0.0, 0.2])
def test_the_nucleus_is_exact(weights: Floats, share: float, least: float) -> None:
    """A drawn index is kept if it is in the nucleus, and drawn again if it is not."""
    ranked = np.argsort(-weights, kind="stable")
    running = np.cumsum(weights[ranked], dtype=np.float64)
    before = running - weights[ranked]
    target = share * running[-1]
    edge = int(np.searchsorted(before, target))
    ranks = {0, 1, edge - 1, edge, edge + 1, len(ranked) // 2, len(ranked) - 1}
    checked = 0
    for rank in sorted(rank for rank in ranks if 0 <= rank < len(ranked)):
        index = int(ranked[rank])
        # Draws of less than float32's rounding, and sums at the very edge, decide nothing.
        if weights[index] < 1e-5 * running[-1] or abs(before[rank] - target) < 1e-5 * running[-1]:
            continue
        draws = Draws(weights, index)
        drawn = draw_nucleus(weights.copy(), share, least, draws)
        kept = before[rank] < target and weights[index] >= least
        assert (draws.count == 1) == kept
        assert (drawn == index) == kept
        assert weights[drawn] >= least
        assert before[list(ranked).index(drawn)] < target + 1e-5 * running[-1]
        checked += 1
    assert checked or weights.size > 4000


def test_everything_may_be_drawn_of_flat_weights() -> None:
    random = np.random.default_rng(0).random
    flat = np.ones(3000, np.float32)
    drawn = {draw_nucleus(flat.copy(), 0.01, 0.0, random) for _ in range(400)}
    assert drawn == set(range(30))  # of equal ones those of lower index


@hypothesis.given(
    st.integers(1, 40) | st.integers(1000, 4000), st.integers(0, 2**32), st.integers(0, 2**20 - 1)
)
def test_draw_inverts_the_cumulative_distribution(size: int, seed: int, numerator: int) -> None:
    """Whole weights and a dyadic fraction make both sides exact."""
    whole = np.random.default_rng(seed).integers(0, 50, size).astype(np.float32)
    whole[seed % size] += 1
    uniform = numerator / 2**20
    running = np.cumsum(whole[order(size)], dtype=np.float64)
    position = int(np.searchsorted(running, uniform * running[-1], side="right"))
    assert RunningSums(whole).index(uniform) == order(size)[position]
    assert RunningSums(whole).total == whole.sum()


def test_draw_never_gives_a_weight_of_zero() -> None:
    weights = np.array([0, 0.1, 0, 0.2, 0], np.float32)
    almost_one = float(np.nextafter(1.0, 0.0))
    assert RunningSums(weights).index(0.0) == 1
    assert RunningSums(weights).index(almost_one) == 3
    many = np.zeros(5000, np.float32)
    many[[7, 4000]] = 0.1
    assert {RunningSums(many).index(0.0), RunningSums(many).index(almost_one)} == {7, 4000}
