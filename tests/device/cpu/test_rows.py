"""Rows that a linear kernel makes as it reads them, against the same rows written to memory."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.device.cpu.kernels.activation import Activated, Gated
from mlc_llm.device.cpu.kernels.float_linear import float_blocks, float_linear, repack_float
from mlc_llm.device.cpu.kernels.norm import LayerNormed, RmsNormed
from mlc_llm.device.cpu.kernels.rows import PLAIN, added_rows_kernel, left_over, rows_kernel

pytestmark = pytest.mark.matrix

KINDS = [
    PLAIN,
    RmsNormed(1e-5, "float16"),
    RmsNormed(1e-5, "float32", unit_offset=True),
    LayerNormed(1e-5, "float16"),
    LayerNormed(1e-5, "float32", bias=False),
    Gated("silu"),
    Gated("gelu"),
    Activated("gelu_tanh"),
    Activated("relu2"),
]
N, K = 33, 75  # neither a whole number of blocks nor of vectors


@pytest.mark.parametrize("m", [1, 11])
@pytest.mark.parametrize("rows", KINDS, ids=str)
def test_a_linear_kernel_multiplies_them(machine, rng, rows, m):
    x = rng.standard_normal((m, rows.width(K))).astype("float32")
    given = [x, *(rng.standard_normal(K).astype(dtype) for dtype in rows.weights().values())]
    written = np.full((m, K), np.nan, "float32")
    machine(rows_kernel(rows, K, "float32", machine.isa), *given, written)

    weight = rng.standard_normal((N, K)).astype("float32")
    packed = np.zeros((float_blocks(N), K, 16), "float32")
    machine(repack_float(N, K, "float32"), weight, packed)
    y = np.full((m, N), np.nan, "float32")
    one = 1 if m == 1 else None
    kernel = float_linear(N, K, one, "float32", "float32", "float32", machine.isa, rows)
    machine(kernel, *given, packed, y)

    exact = written.astype("float64") @ weight.T.astype("float64")
    bound = 1e-6 * (np.abs(written) @ np.abs(weight).T)
    np.testing.assert_array_less(np.abs(y - exact), bound)


@pytest.mark.parametrize("m", [1, 11])
@pytest.mark.parametrize("rows", [rows for rows in KINDS if rows.weights()], ids=str)
def test_they_are_added_to_a_residual(machine, rng, rows, m):
    x, residual = (rng.standard_normal((m, K)).astype("float32") for _ in range(2))
    given = [x, *(rng.standard_normal(K).astype(dtype) for dtype in rows.weights().values())]
    written, total = (np.full((m, K), np.nan, "float32") for _ in range(2))
    machine(rows_kernel(rows, K, "float32", machine.isa), *given, written)
    machine(added_rows_kernel(rows, K, "float32", machine.isa), *given, residual, total)
    bound = 1e-6 * (np.abs(written) + np.abs(residual))
    np.testing.assert_array_less(np.abs(total - written.astype("float64") - residual), bound)


def test_kinds_are_compared_by_value():
    """Kernels are cached by them."""
    assert RmsNormed(1e-5, "float16") == RmsNormed(1e-5, "float16")
    assert len({*KINDS, *KINDS}) == len(KINDS)


@pytest.mark.parametrize("lanes", [1, 4, 16])
def test_what_is_left_over_follows_the_whole_vectors(lanes):
    for k in range(1, 35):
        covered = [at + i for at, n in left_over(k, lanes) for i in range(n)]
        assert covered == list(range(k - k % lanes, k))
        assert all(n < lanes for _, n in left_over(k, lanes))
