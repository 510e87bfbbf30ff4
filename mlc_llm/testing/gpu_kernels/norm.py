"""Norms."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels.norm import head_norm, layer_norm, rms_norm
from mlc_llm.testing import paged_attention as paged
from mlc_llm.testing.gpu_kernels.suite import UNIT, GPUKernelSuite, Run


def spread(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Rows of many sizes, one of which is zero and one far from it."""
    x = rng.standard_normal((5, columns)).astype("float32")
    x[1] *= 1e-4
    x[2] *= 1e6
    x[3] = 0.0
    x[4] += 1000.0
    return x


def rms(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The definition, for an epsilon of 1e-5."""
    x = x.astype("float64")
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * factor


class GPUNormSuite(GPUKernelSuite):
    """Norms of rows, and of heads."""

    @pytest.mark.parametrize("columns", [7, 601])
    @pytest.mark.parametrize("unit_offset", [False, True])
    def test_rms_norm(
        self,
        run: Run,
        rng: np.random.Generator,
        columns: int,
        unit_offset: bool,
        capabilities: GPUCapabilities,
    ) -> None:
        x, w = spread(rng, columns), rng.standard_normal(columns).astype("float16")
        y = np.full_like(x, np.nan)
        run(rms_norm(columns, 1e-5, unit_offset, "float16", "float32", capabilities), x, w, y)
        want = rms(x, w + np.float64(unit_offset))
        np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-30)

    @pytest.mark.parametrize("columns", [7, 601])
    @pytest.mark.parametrize("has_bias", [False, True])
    def test_layer_norm(
        self,
        run: Run,
        rng: np.random.Generator,
        columns: int,
        has_bias: bool,
        capabilities: GPUCapabilities,
    ) -> None:
        x, w, b = spread(rng, columns), *rng.standard_normal((2, columns)).astype("float32")
        y = np.full_like(x, np.nan)
        dtypes = ("float32", "float32" if has_bias else None, "float32")
        run(layer_norm(columns, 1e-5, *dtypes, capabilities), x, w, *([b] if has_bias else []), y)
        mean = x.astype("float64").mean(-1, keepdims=True)
        factor = w / np.sqrt((x.astype("float64") - mean).var(-1, keepdims=True) + 1e-5)
        sizes = (np.abs(x) + np.abs(mean)) * np.abs(factor) + np.abs(b)
        assert (np.abs(y - (x - mean) * factor - b * has_bias) <= 20 * UNIT * sizes).all()

    def test_norms_of_the_largest_float16(self, run: Run, capabilities: GPUCapabilities) -> None:
        x, w, y = (np.full((2, 300), value, "float16") for value in (65504, 1, np.nan))
        x[1, ::2] = -65504
        run(rms_norm(300, 1e-5, False, "float16", "float16", capabilities), x, w[0], y)
        np.testing.assert_array_equal(y, np.sign(x))
        run(layer_norm(300, 1e-5, "float16", None, "float16", capabilities), x, w[0], y)
        np.testing.assert_array_equal(y, [np.zeros(300), np.sign(x[1])])

    @pytest.mark.parametrize("unit_offset", [False, True])
    @pytest.mark.parametrize("value_size", [8, 20, 33])
    def test_head_norm(
        self,
        run: Run,
        rng: np.random.Generator,
        unit_offset: bool,
        value_size: int,
        capabilities: GPUCapabilities,
    ) -> None:
        spec = paged.describe((6, 3), 20, value_size=value_size)
        qkv = rng.standard_normal((4, spec.qkv_width)).astype("float32")
        queries, keys = rng.standard_normal((2, 20)).astype("float32")
        y = np.full_like(qkv, np.nan)
        run(
            head_norm(spec, 1e-5, unit_offset, "float32", "float32", capabilities),
            qkv,
            queries,
            keys,
            y,
        )
        heads = qkv[:, : 9 * 20].reshape(4, 9, 20)
        factors = np.repeat([queries, keys], [6, 3], 0) + np.float64(unit_offset)
        np.testing.assert_allclose(
            y[:, : 9 * 20].reshape(heads.shape), rms(heads, factors), rtol=2e-6
        )
        np.testing.assert_array_equal(y[:, 9 * 20 :], qkv[:, 9 * 20 :])
