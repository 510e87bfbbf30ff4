"""Linear kernels that compute their rows and add a residual, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.device.cpu.kernels.float_linear import float_blocks, float_linear, repack_float
from mlc_llm.device.cpu.kernels.q4_linear import q4_blocks, q4_groups, q4_linear, repack_q4
from mlc_llm.device.cpu.kernels.rows import GATED, PLAIN, RowsOf

EPSILON = 1e-5
NORMED = RowsOf("normed", EPSILON, "float16")
ROWS = {"plain": PLAIN, "normed": NORMED, "gated": GATED}
N, K = 105, 72  # neither a whole number of blocks nor of groups


def rows(rng, kind, m, k):
    """The kernel's first arguments, and the rows that they stand for in float64."""
    x = rng.standard_normal((m, 2 * k if kind == "gated" else k)).astype("float32") * 3
    exact = x.astype("float64")
    if kind == "normed":
        weight = rng.uniform(0.5, 1.5, k).astype("float16")
        scale = np.sqrt((exact**2).mean(1, keepdims=True) + EPSILON)
        return [x, weight], exact / scale * weight.astype("float64")
    if kind == "gated":
        gate, up = exact[:, :k], exact[:, k:]
        return [x], gate / (1 + np.exp(-gate)) * up
    return [x], exact


def q4_weight(machine, rng, n, k):
    """The packed arguments of a random weight, and the weight."""
    groups = q4_groups(k)
    codes = rng.integers(0, 15, (n, groups * 32)).astype(np.uint32)
    codes[:, k:] = 0
    words = codes.reshape(n, groups * 4, 8) << (4 * np.arange(8, dtype=np.uint32))
    q_weight = np.bitwise_or.reduce(words, axis=-1)
    q_scale = rng.uniform(0.002, 0.02, (n, groups)).astype("float16")
    weight = (codes - 7.0) * np.repeat(q_scale.astype("float64"), 32, axis=1)
    packed = np.zeros((q4_blocks(n), groups, 4, 64), "uint8")
    scales = np.zeros((q4_blocks(n), groups, 16), "float16")
    machine(repack_q4(n, k, "float16"), q_weight, q_scale, packed, scales)
    return [packed, scales], weight[:, :k]


def run(machine, kernel, given, packed, residual, m, n):
    y = np.full((m, n), np.nan, "float32")
    machine(kernel, *given, *packed, residual, y)
    return y


@pytest.mark.parametrize("m", [1, 11])
@pytest.mark.parametrize("kind", list(ROWS))
def test_q4(machine, rng, kind, m):
    n, k = N, K
    given, exact = rows(rng, kind, m, k)
    packed, weight = q4_weight(machine, rng, n, k)
    residual = rng.standard_normal((m, n)).astype("float32")
    count = 1 if m == 1 else None
    kernel = q4_linear(
        n, k, count, "float16", "float32", "float32", machine.isa, "a16", ROWS[kind], True
    )
    y = run(machine, kernel, given, packed, residual, m, n)
    expected = exact @ weight.T + residual
    # Activations in 16 bits: half a step of the largest of a row bounds every group's.
    step = np.abs(exact).max(1, keepdims=True) / 32000
    bound = 3e-6 * (np.abs(exact) @ np.abs(weight).T + 1) + step * np.abs(weight).sum(1)
    np.testing.assert_array_less(np.abs(y - expected), bound)


@pytest.mark.parametrize("m", [1, 11])
@pytest.mark.parametrize("kind", list(ROWS))
def test_float(machine, rng, kind, m):
    n, k = N, K
    given, exact = rows(rng, kind, m, k)
    weight = rng.standard_normal((n, k)).astype("float32")
    packed = np.zeros((float_blocks(n), k, 16), "float32")
    machine(repack_float(n, k, "float32"), weight, packed)
    residual = rng.standard_normal((m, n)).astype("float32")
    count = 1 if m == 1 else None
    kernel = float_linear(
        n, k, count, "float32", "float32", "float32", machine.isa, ROWS[kind], True
    )
    y = run(machine, kernel, given, [packed], residual, m, n)
    expected = exact @ weight.T + residual
    bound = 3e-6 * (np.abs(exact) @ np.abs(weight).T + 1)
    np.testing.assert_array_less(np.abs(y - expected), bound)
