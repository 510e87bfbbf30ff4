"""Kernels of models against NumPy, at the sizes of Llama-2-7B and Llama-3.1-8B.

Error bounds are those that the kernels state; see :mod:`mlc_llm.compile.gpu.kernels.linear`,
:mod:`mlc_llm_cuda.kernels.matmul` and :mod:`mlc_llm.testing.paged_attention`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.gpu.cases import Case, Run
from mlc_llm.plugin import Rope, Scheme
from mlc_llm.testing import paged_attention as paged
from mlc_llm.testing.random_weight import random_tensors

Q4 = Scheme(4, "float16", group=32, zero=7)
"""How ``q4f16_1`` stores a matrix."""
SCRATCH = "scratch.json"
"""The file of what kernels need beside their arguments: shapes and dtypes, by their names."""
UNIT, HALF_UNIT = 2.0**-24, 2.0**-11
"""How far a rounded number is off at most, relative to itself: in float32 and in float16."""
FEW = 16
"""Products of more tokens round weights to float16."""
EPSILON = 1e-5


class ModelKernels:
    """What makes the kernels of models; for where TVM's compiler is.

    Args:
        codegen: the CUDA device's compiler half.
    """

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def attention(self, *description: Any) -> Any:
        """The kernels of :class:`~mlc_llm.plugin.AttentionKernels`."""
        return self._codegen.attention(*description)

    def product(
        self, columns: int, single: bool, out: str = "float16", norm: bool = False, **more: Any
    ) -> Any:
        """A product with a weight in :data:`Q4` of any number of rows.

        Args:
            columns: of the weight.
            single: whether it is of one token.
            out: dtype of the result.
            norm: whether an RMS norm comes before.
            more: the gate or the residual of the :class:`Product`.
        """
        from mlc_llm.compile.gpu.kernels.linear import Product
        from mlc_llm.compile.gpu.kernels.norm import RMSNormKind
        from mlc_llm.compile.gpu.kernels.weight import weight_of

        makers, capabilities = self._codegen.kernels, self._codegen.capabilities
        make = makers.gemv if single else makers.matmul
        before = RMSNormKind(EPSILON, False, "float16") if norm else None
        kind = Product(weight_of(Q4, columns), None, "float16", out, norm=before, **more)
        return make(kind, capabilities)

    def rms_norm(self, columns: int) -> Any:
        """An RMS norm of halves."""
        kind = (columns, EPSILON, False, "float16", "float16")
        return self._codegen.kernels.rms_norm(*kind, self._codegen.capabilities)

    def gated(self, columns: int) -> Any:
        """SiLU of the first half of a row, times the second."""
        return self._codegen.kernels.gated("silu", columns, "float16", self._codegen.capabilities)


def product(columns: int, rows: int, tokens: int, out: str = "float16") -> Case:
    """x (tokens, columns) times a weight (rows, columns)."""

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        words, scales = random_tensors(rng, rows, columns, Q4, 0.02)
        x = rng.standard_normal((tokens, columns)).astype("float16")
        y = np.full((tokens, rows), np.nan, out)
        run(kernels.product(columns, tokens == 1, out), x, words, scales, y)
        values = dequantized(words, scales)
        exact = x.astype(float) @ values.T
        terms = np.abs(x.astype(float)) @ np.abs(values).T
        bound = (columns + 2) * UNIT * terms
        if tokens > FEW:
            bound += HALF_UNIT * terms
        if out == "float16":
            bound += np.abs(exact) * float(np.finfo(out).eps)
        _assert_within(y, exact, bound)

    return check


def gated_product(columns: int, outputs: int) -> Case:
    """One token on its way into a feed-forward layer: an RMS norm, a product, and SiLU."""

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        words, scales = random_tensors(rng, 2 * outputs, columns, Q4, 0.02)
        x, w = (rng.standard_normal(shape).astype("float16") for shape in ((1, columns), columns))
        y = np.full((1, outputs), np.nan, "float16")
        run(kernels.product(columns, True, norm=True, gate="silu"), x, w, words, scales, y)
        values, wide = dequantized(words, scales), x.astype(float)
        wide = wide / np.sqrt((wide**2).mean() + EPSILON) * w.astype(float)
        gate, up = np.split(wide @ values.T, 2, axis=1)
        terms = np.abs(wide) @ np.abs(values).T
        off_gate, off_up = np.split((2 * HALF_UNIT + (columns + 2) * UNIT) * terms, 2, axis=1)
        silu = gate / (1 + np.exp(-gate))
        # SiLU's slope is 1.1 at most.
        bound = 1.1 * off_gate * (np.abs(up) + off_up) + np.abs(silu) * off_up
        _assert_within(y, silu * up, bound + np.abs(silu * up) * 2 * HALF_UNIT + UNIT)

    return check


def added_product(columns: int, rows: int) -> Case:
    """One token on its way out of a layer: a product that is added to what came in."""

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        words, scales = random_tensors(rng, rows, columns, Q4, 0.02)
        x, r = (rng.standard_normal((1, n)).astype("float16") for n in (columns, rows))
        y = np.full((1, rows), np.nan, "float16")
        run(kernels.product(columns, True, residual=True), x, words, scales, r, y)
        values, wide = dequantized(words, scales), x.astype(float)
        exact = wide @ values.T + r
        bound = (columns + 4) * UNIT * (np.abs(wide) @ np.abs(values).T + np.abs(r))
        _assert_within(y, exact, bound + np.abs(exact) * 2 * HALF_UNIT)

    return check


def dequantized(words: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The weights (rows, columns) that tensors of :data:`Q4` hold."""
    codes = words[:, :, None] >> np.arange(0, 32, 4, dtype="uint32") & 15
    grouped = codes.reshape(len(words), -1, Q4.group).astype(float) - 7
    return (grouped * scales[:, :, None]).reshape(len(words), -1)


def rms_norm(columns: int, tokens: int) -> Case:
    """Rows of very different sizes."""

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        sizes = 10.0 ** rng.integers(-3, 3, (tokens, 1))
        x = (rng.standard_normal((tokens, columns)) * sizes).astype("float16")
        w = rng.standard_normal(columns).astype("float16")
        y = np.full_like(x, np.nan)
        run(kernels.rms_norm(columns), x, w, y)
        wide = x.astype(float)
        exact = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + EPSILON) * w.astype(float)
        _assert_within(y, exact, np.abs(exact) * 2.0**-10 + 2.0**-24)

    return check


def gated(columns: int, tokens: int) -> Case:
    """The middle of a feed-forward layer."""

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        x = (rng.standard_normal((tokens, 2 * columns)) * 4).astype("float16")
        y = np.full((tokens, columns), np.nan, "float16")
        run(kernels.gated(columns), x, y)
        gate, up = (part.astype(float) for part in np.split(x, 2, axis=1))
        exact = gate / (1 + np.exp(-gate)) * up
        _assert_within(y, exact, np.abs(exact) * 2.0**-9 + 2.0**-23)

    return check


def attention(step: str, heads: tuple[int, int], tokens: list[Any], **more: Any) -> Case:
    """A step of attention, of heads of 128 numbers, over pages in any order.

    Args:
        step: ``append``, ``decode`` or ``prefill``.
        heads: of queries, and of keys.
        tokens: what ``check_...`` of :mod:`mlc_llm.testing.paged_attention` takes.
        more: of the description.
    """

    checks: dict[str, Callable[..., None]] = {
        "append": paged.check_append,
        "decode": paged.check_decode,
        "prefill": paged.check_prefill,
    }

    def check(kernels: Any, run: Run, rng: np.random.Generator) -> None:
        spec = paged.describe(heads, 128, rope=_rope(128), **more)
        checks[step](run, kernels.attention, rng, spec, tokens, "float16")

    return check


def _rope(size: int) -> Rope:
    frequencies = (10000.0 ** -(np.arange(0, size, 2) / size)).astype("float32")
    return Rope(tuple(map(float, frequencies)))


def _assert_within(found: np.ndarray, exact: np.ndarray, bound: np.ndarray) -> None:
    assert np.isfinite(found).all(), "a result is not finite"
    share = np.abs(found.astype(float) - exact) / np.maximum(bound, 1e-300)
    assert (share <= 1).all(), f"a result is off by {share.max():.3g} of what is allowed"


ALL: Mapping[str, Case] = {
    "product_1_of_4096": product(4096, 512, 1),
    "product_1_of_11008": product(11008, 256, 1),
    "product_1_of_14336": product(14336, 256, 1),
    "product_1_to_float32": product(4096, 517, 1, "float32"),
    "gated_product": gated_product(4096, 304),
    "added_product": added_product(11008, 128),
    "product_8_of_4096": product(4096, 512, 8),
    "product_16_of_11008": product(11008, 256, 16),
    "product_100_of_4096": product(4096, 384, 100),
    "product_300_of_11008": product(11008, 200, 300),
    "rms_norm": rms_norm(4096, 5),
    "gated": gated(11008, 3),
    "append": attention("append", (32, 32), [(0, 0), (1, 40), (0, 17), (2, 63), (2, 64)]),
    "append_grouped": attention("append", (32, 8), [(0, 0), (1, 40), (0, 17), (1, 41)]),
    "decode": attention("decode", (32, 32), [33, 1, 290]),
    "decode_grouped": attention("decode", (32, 8), [33, 1, 1500, 16]),
    "decode_window": attention("decode", (32, 8), [33, 700], window=128),
    "prefill": attention("prefill", (32, 32), [(40, 30), (0, 75)]),
    "prefill_grouped": attention("prefill", (32, 8), [(0, 130), (250, 33), (0, 1)]),
    "prefill_window": attention("prefill", (32, 8), [(100, 70)], window=64),
}
"""By the names that their kernels have in the bundle."""

QUICK: Mapping[str, Case] = {
    "product_1_of_128": product(128, 48, 1),
    "gated_product": gated_product(192, 24),
    "added_product": added_product(128, 19),
    "product_9_of_128": product(128, 33, 9),
    "product_40_of_128": product(128, 33, 40),
    "rms_norm": rms_norm(256, 3),
    "decode": attention("decode", (2, 1), [33, 5]),
    "prefill": attention("prefill", (2, 1), [(40, 3), (0, 20)]),
}
"""Small ones, for the emulated GPU."""

PRODUCT = "product"
"""The name of the product that is timed."""
LARGE = (4096, 11008, 2048)
"""Its columns, rows and tokens."""
QUICK_LARGE = (128, 64, 32)
