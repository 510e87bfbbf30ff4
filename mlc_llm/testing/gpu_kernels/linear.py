"""Linear layers and embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels.embedding import embedding
from mlc_llm.compile.gpu.kernels.linear import Product, gemv, matmul
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.model.layers import ActivationName
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.testing.gpu_kernels.activation import activated
from mlc_llm.testing.gpu_kernels.suite import UNIT, GPUKernelSuite, Run

SHAPES = [(47, 33), (300, 5)]
"""Columns and rows: groups and words that end with a row or within it."""

SCHEMES = [
    Scheme(16, "float16"),
    Scheme(32, "float32"),
    Scheme(4, "float16", group=32, zero=7),
    Scheme(4, "float32", group=32, zero=8),
    Scheme(4, "float16", group=32, zero=7, layout="columns"),
    Scheme(4, "float16", group=32),
    Scheme(8, "float32", group=16, zero=127),
    Scheme(8, "float16", group=32, zero=128),
    Scheme(3, "float16", group=40, zero=3),
    Scheme(2, "float16", group=16, zero=0),
    Scheme(7, "float32", group=12, layout="columns"),
    Scheme(5, "float32", group=32),
    Scheme(6, "float16", group=16, zero=40, layout="columns"),
]


def stored(
    rng: np.random.Generator, rows: int, columns: int, scheme: Scheme
) -> tuple[list[np.ndarray], np.ndarray]:
    """The tensors of a random weight, and its values. Codes past the end of a row are random."""
    if scheme.is_float:
        floats = rng.standard_normal((rows, columns)).astype(scheme.dtype)
        return [floats], floats.astype("float64")
    groups = -(-columns // scheme.group)
    codes = rng.integers(0, 2**scheme.bits, (rows, groups, scheme.group))
    scales = rng.uniform(0.5, 1.5, (rows, groups)).astype(scheme.dtype)
    of_rows, values = codes.reshape(rows, -1), codes.astype(float)
    if scheme.bits in (5, 6):
        planes = [packed(of_rows % 16, 4), packed(of_rows // 16, scheme.bits - 4)]
    else:
        planes = [packed(of_rows, scheme.bits)]
    tensors = [*planes, scales]
    if scheme.zero is not None:
        values = (values - scheme.zero) * scales[:, :, None]
    else:
        minimums = rng.standard_normal((rows, groups)).astype(scheme.dtype)
        tensors.append(minimums)
        values = values * scales[:, :, None] + minimums[:, :, None]
    if scheme.layout == "columns":
        tensors = [tensor.T for tensor in tensors]
    return tensors, values.reshape(rows, -1)[:, :columns]


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes in words of 32 bits, bit by bit: the first code in the lowest bits."""
    per_word = 32 // bits
    words = np.zeros((len(codes), codes.shape[1] // per_word), "uint32")
    for column in range(words.shape[1] * per_word):
        for bit in range(bits):
            place = np.uint32(column % per_word * bits + bit)
            words[:, column // per_word] |= (codes[:, column] >> bit & 1).astype("uint32") << place
    return words


def magnitudes(tensors: list[np.ndarray], values: np.ndarray, scheme: Scheme) -> np.ndarray:
    """What products are made of: with a minimum, the two parts of a weight."""
    if not scheme.has_minimum:
        return np.abs(values)
    minimums = tensors[-1].T if scheme.layout == "columns" else tensors[-1]
    minimums = np.repeat(minimums.astype("float64"), scheme.group, 1)[:, : values.shape[1]]
    return np.abs(values - minimums) + np.abs(minimums)


class GPULinearSuite(GPUKernelSuite):
    """Products with weights, and rows of them, in every kind of scheme."""

    @pytest.mark.matrix
    @pytest.mark.parametrize("scheme", SCHEMES, ids=str)
    @pytest.mark.parametrize(("columns", "rows"), SHAPES)
    def test_linear(
        self,
        run: Run,
        rng: np.random.Generator,
        columns: int,
        rows: int,
        scheme: Scheme,
        capabilities: GPUCapabilities,
    ) -> None:
        """As exact as `linear.py` says."""
        tensors, values = stored(rng, rows, columns, scheme)
        has_bias = rows == 33
        bias = rng.standard_normal(rows).astype("float16") if has_bias else np.zeros(rows)
        product = Product(
            weight_of(scheme, columns),
            rows if rows == 5 else None,  # taken from the tensors
            scheme.dtype,
            "float32",
            "float16" if has_bias else None,
        )
        for make, tokens in ((gemv, 1), (matmul, 1), (matmul, 37)):
            x = rng.standard_normal((tokens, columns)).astype(scheme.dtype)
            y = np.full((tokens, rows), np.nan, "float32")
            run(make(product, capabilities), x, *tensors, *([bias] if has_bias else []), y)
            exact = x.astype("float64") @ values.T + bias
            terms = np.abs(x.astype("float64")) @ magnitudes(tensors, values, scheme).T + np.abs(
                bias
            )
            assert (np.abs(y - exact) <= (columns + 2) * UNIT * terms).all()

    @pytest.mark.parametrize("tokens", [1, 37])
    @pytest.mark.parametrize(("gate", "residual"), [("silu", False), (None, True)])
    def test_what_follows_a_product(
        self,
        run: Run,
        rng: np.random.Generator,
        tokens: int,
        gate: ActivationName | None,
        residual: bool,
        capabilities: GPUCapabilities,
    ) -> None:
        """A gated activation of outputs that fill no tile, or a residual; a bias before them."""
        scheme, columns, outputs = Scheme(4, "float16", group=32, zero=7), 70, 53
        rows = outputs if gate is None else 2 * outputs
        tensors, values = stored(rng, rows, columns, scheme)
        bias = rng.standard_normal(rows).astype("float16")
        x = rng.standard_normal((tokens, columns)).astype("float16")
        y = np.full((tokens, outputs), np.nan, "float32")
        weight = weight_of(scheme, columns)
        product = Product(weight, outputs, "float16", "float32", "float16", gate, residual)
        more = [rng.standard_normal(y.shape).astype("float32")] if residual else []
        make = gemv if tokens == 1 else matmul
        run(make(product, capabilities), x, *tensors, bias, *more, y)
        want = x.astype("float64") @ values.T + bias
        if gate is not None:
            want = activated(gate, want[:, :outputs])[0] * want[:, outputs:]
        want = sum(more, start=want)
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("scheme", SCHEMES, ids=str)
    def test_embedding(
        self, run: Run, rng: np.random.Generator, scheme: Scheme, capabilities: GPUCapabilities
    ) -> None:
        tensors, values = stored(rng, 20, 101, scheme)
        ids = np.array([3, 19, 0, 3], "int32")
        out = np.full((4, 101), np.nan, "float32")
        run(embedding(weight_of(scheme, 101), "float32", capabilities), ids, *tensors, out)
        sizes = magnitudes(tensors, values, scheme)[ids]
        assert (np.abs(out - values[ids]) <= 2 * UNIT * sizes).all()
