"""Linear kernels that compute their rows, have parts, and add a bias and a residual."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.device.cpu.kernels.activation import Gated
from mlc_llm.device.cpu.kernels.float_linear import float_blocks, float_linear, repack_float
from mlc_llm.device.cpu.kernels.group_layout import Part
from mlc_llm.device.cpu.kernels.group_linear import group_linear
from mlc_llm.device.cpu.kernels.norm import RmsNormed
from mlc_llm.device.cpu.kernels.rows import PLAIN
from mlc_llm.plugin.scheme import Scheme

pytestmark = pytest.mark.matrix

EPSILON = 1e-5
ROWS = {"plain": PLAIN, "normed": RmsNormed(EPSILON, "float16"), "gated": Gated("silu")}
N, K = 105, 72  # neither a whole number of blocks nor of groups
PARTS = (
    (41, Scheme(4, "float16", 32, 7)),
    (9, Scheme(8, "float32", 32, 127)),
    (33, Scheme(4, "float16", 32, None)),
    (64, Scheme(3, "float16", 40, 3)),
)


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


def check(machine, kernel, arguments, weight, exact, n):
    """Run a kernel with a bias and a residual; y and what it must be, before any rounding."""
    m, rng = len(exact), np.random.default_rng(5)
    bias = rng.standard_normal(n).astype("float16")
    residual = rng.standard_normal((m, n)).astype("float32")
    y = np.full((m, n), np.nan, "float32")
    machine(kernel, *arguments, bias, residual, y)
    return y, exact @ weight.T + bias.astype("float64") + residual


@pytest.mark.parametrize("m", [1, 11])
@pytest.mark.parametrize("kind", list(ROWS))
def test_parts_of_several_schemes(machine, rng, random_weight, kind, m):
    """Parts whose rows are no whole blocks, whose groups and zeros differ, with minimums too."""
    given, exact = rows(rng, kind, m, K)
    weights = [random_weight(n, K, scheme) for n, scheme in PARTS]
    parts, n = tuple(Part(n, scheme) for n, scheme in PARTS), sum(n for n, _ in PARTS)
    count = 1 if m == 1 else None
    kernel = group_linear(
        parts, K, count, "float32", "float32", machine.isa, "a16", ROWS[kind], True, "float16"
    )
    packed = [tensor for weight in weights for tensor in weight.packed(machine)]
    values = np.concatenate([weight.values for weight in weights]).astype("float64")
    y, expected = check(machine, kernel, [*given, *packed], values, exact, n)
    bound = np.concatenate([weight.error_bound(exact, 32000) for weight in weights], axis=1)
    np.testing.assert_array_less(np.abs(y - expected), 3 * bound + 3e-6)


@pytest.mark.parametrize("m", [1, 11])
@pytest.mark.parametrize("kind", list(ROWS))
def test_float(machine, rng, kind, m):
    given, exact = rows(rng, kind, m, K)
    weight = rng.standard_normal((N, K)).astype("float32")
    packed = np.zeros((float_blocks(N), K, 16), "float32")
    machine(repack_float(N, K, "float32"), weight, packed)
    count = 1 if m == 1 else None
    kernel = float_linear(
        N, K, count, "float32", "float32", "float32", machine.isa, ROWS[kind], True, "float16"
    )
    y, expected = check(machine, kernel, [*given, packed], weight, exact, N)
    bound = 3e-6 * (np.abs(exact) @ np.abs(weight).T + 1)
    np.testing.assert_array_less(np.abs(y - expected), bound)
