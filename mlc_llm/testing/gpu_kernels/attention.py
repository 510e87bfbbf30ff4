"""Attention over the paged cache, and what is appended to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen
from mlc_llm.plugin import PAGE_SIZE, AttentionKernels, AttentionSpec, Rope
from mlc_llm.testing import paged_attention as paged
from mlc_llm.testing.gpu_kernels.suite import GPUKernelSuite, Run


def rope(elements: int, base: float = 10000.0, **more: Any) -> Rope:
    """A rotation of the first elements of a head."""
    exponents = np.arange(0, elements, 2) / elements
    frequencies = (base**-exponents).astype("float32")
    return Rope(tuple(float(f) for f in frequencies), **more)


ROWS = [(1, 0), (0, 17), (1, 1), (2, 63), (2, 64), (1, 40)]
"""Sequences and positions, in no order."""

APPENDED: dict[str, tuple[int, dict[str, Any]]] = {
    "halves": (24, {"rope": rope(24)}),
    "wide heads": (80, {"rope": rope(80), "value_size": 16}),
    "part of a head": (24, {"rope": rope(10, factor=1.3), "value_size": 40}),
    "interleaved": (16, {"rope": rope(16, factor=0.7, interleaved=True)}),
    "part of a head, interleaved": (24, {"rope": rope(8, interleaved=True)}),
    "no rotation": (16, {"value_size": 24}),
}

SEEN: dict[str, tuple[tuple[int, int], int, dict[str, Any]]] = {
    "wide heads": ((10, 2), 80, {}),
    "a head of keys": ((4, 1), 16, {"value_size": 40}),
    "wide values": ((2, 2), 16, {"value_size": 144}),
    "window": ((4, 2), 16, {"window": 21}),
    "window and sink": ((4, 2), 16, {"window": 21, "sink": 4}),
    "window of one": ((8, 1), 16, {"window": 1, "value_size": 8}),
    "sink logits": ((4, 2), 24, {"sink_logits": True}),
    "window and sink logits": ((16, 2), 16, {"window": 17, "sink_logits": True}),
    "soft cap": ((4, 2), 16, {"soft_cap": 2.0, "scale": 1.0}),
}

LENGTHS = [33, 1, 16, 290]
PARTS = [(40, 3), (0, 75), (16, 0), (0, 1), (250, 33)]
"""Tokens before, and new ones."""


class GPUAttentionSuite(GPUKernelSuite):
    """Attention of every kind, and the cache's other kernels."""

    @pytest.fixture
    def make(self, capabilities: GPUCapabilities) -> paged.Make:
        """Makes the kernels of a description."""

        def make(spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
            return GPUCodegen(capabilities, {}).attention(spec, dtype, activation_dtype)

        return make

    @pytest.mark.parametrize("case", APPENDED)
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_append(
        self, run: Run, rng: np.random.Generator, case: str, dtype: str, make: paged.Make
    ) -> None:
        size, more = APPENDED[case]
        spec = paged.describe((3, 1), size, **more)
        paged.check_append(run, make, rng, spec, ROWS, dtype)
        if spec.rope is not None:
            paged.check_append(run, make, rng, replace(spec, keys_of=0), ROWS, dtype)

    @pytest.mark.parametrize("interleaved", [False, True])
    def test_far_positions_are_rotated_as_exactly(
        self, run: Run, rng: np.random.Generator, interleaved: bool, make: paged.Make
    ) -> None:
        """There a GPU's own sine is wrong."""
        rotation = rope(16, 500000.0, interleaved=interleaved)
        spec = paged.describe((2, 1), 16, rope=rotation, keys_of=0)
        rows = [(0, p) for p in (5000, 65535, 99999, 100000)]
        paged.check_append(run, make, rng, spec, rows)

    def test_only_keys_of_another_layer_are_rotated_apart(self, make: paged.Make) -> None:
        own, dtypes = paged.describe((2, 1), 16, rope=rope(16)), ("float32", "float32")
        sharing = replace(own, keys_of=0)
        assert make(own, *dtypes).rotate is None
        assert make(sharing, *dtypes).append is None
        assert make(replace(sharing, rope=None), *dtypes).rotate is None

    def test_layers_share_what_is_the_same_for_them(self, make: paged.Make) -> None:
        def kernels(**more: Any) -> AttentionKernels:
            return make(paged.describe((2, 1), 16, **more), "float16", "float16")

        plain, mine, theirs = kernels(), kernels(rope=rope(16)), kernels(rope=rope(16), keys_of=0)
        assert kernels(rope=rope(16), keys_of=3) == theirs
        assert kernels(rope=rope(16), window=32).append is mine.append is not plain.append
        assert (mine.prefill, mine.decode) == (plain.prefill, plain.decode)
        assert mine.prefill is not theirs.prefill  # Rows of mine hold keys and values, too.
        assert mine.decode is not theirs.decode

    @pytest.mark.parametrize("case", SEEN)
    def test_decode(self, run: Run, rng: np.random.Generator, case: str, make: paged.Make) -> None:
        heads, size, more = SEEN[case]
        paged.check_decode(run, make, rng, paged.describe(heads, size, **more), LENGTHS)

    @pytest.mark.parametrize("case", SEEN)
    def test_prefill(self, run: Run, rng: np.random.Generator, case: str, make: paged.Make) -> None:
        heads, size, more = SEEN[case]
        paged.check_prefill(run, make, rng, paged.describe(heads, size, **more), PARTS)

    def test_decode_of_several_rows_of_a_sequence(
        self, run: Run, rng: np.random.Generator, make: paged.Make
    ) -> None:
        cases: list[dict[str, Any]] = [{}, {"window": 9}]
        for more in cases:
            spec = paged.describe((4, 2), 16, **more)
            rows = [(1, 20), (0, 0), (1, 5), (1, 139), (0, 16)]
            paged.check_decode(run, make, rng, spec, [17, 150], rows=rows)

    def test_attention_in_float16(
        self, run: Run, rng: np.random.Generator, make: paged.Make
    ) -> None:
        spec = paged.describe((4, 2), 32, window=21, sink_logits=True)
        paged.check_decode(run, make, rng, spec, [17, 33], "float16")
        paged.check_prefill(run, make, rng, spec, [(16, 33), (0, 5)], "float16")

    def test_pages_of_another_dtype(
        self, run: Run, rng: np.random.Generator, make: paged.Make
    ) -> None:
        """Keys and values in float16 beside float32 activations: what was appended is attended."""
        spec = paged.describe((2, 1), 16)
        kernels = make(spec, "float16", "float32")
        qkv = rng.standard_normal((20, spec.qkv_width)).astype("float16").astype("float32")
        positions, sequences = np.arange(20, dtype="int32"), np.zeros(20, "int32")
        table, pages = (
            np.array([[1, 2]], "int32"),
            np.full((3, *spec.page_shape), np.nan, "float16"),
        )
        heads, out = qkv.reshape(20, 4, 16), np.empty((20, spec.out_width), "float32")
        run(kernels.append, qkv, positions, sequences, table, pages)
        run(kernels.decode, qkv, positions, sequences, table, pages, out)
        want = paged.attention(spec, heads[:, :2], heads[:, 2:3], heads[:, 3:], positions)
        np.testing.assert_allclose(out.reshape(want.shape), want, rtol=0, atol=1.2e-5)

    @pytest.mark.parametrize("window", [None, 21])
    def test_a_row_is_the_same_whatever_follows_it(
        self, run: Run, rng: np.random.Generator, window: int | None, make: paged.Make
    ) -> None:
        """To the bit: later tokens of its pass may be NaN, and the pass may begin anywhere."""
        spec = paged.describe((2, 1), 16, window=window, keys_of=0)
        held = paged.Sequences.of(rng, spec, [100], "float32")
        q = rng.standard_normal((100, 32)).astype("float32")

        def prefill(begin: int, end: int) -> np.ndarray:
            positions = np.arange(begin, end, dtype="int32")
            tables = (positions, np.zeros_like(positions), np.array([0, end - begin], "int32"))
            out = np.full((end - begin, spec.out_width), np.nan, "float32")
            kernel = make(spec, "float32", "float32").prefill
            run(kernel, q[begin:end], *tables, held.page_table, held.pages, out)
            return out

        whole = prefill(0, 100)
        assert np.isfinite(whole).all()
        np.testing.assert_array_equal(prefill(71, 98), whole[71:98])
        for tensor in held.slot(0, 97):
            tensor[...] = np.nan
        np.testing.assert_array_equal(prefill(71, 100)[:26], whole[71:97])

    @pytest.mark.parametrize("level", [-3e4, 3e4])
    def test_scores_may_be_large(
        self, run: Run, rng: np.random.Generator, level: float, make: paged.Make
    ) -> None:
        """No score is taken for none at all: all are far below zero, or far above it."""
        spec = paged.describe((1, 1), 16, scale=1.0, keys_of=0)
        held = paged.Sequences.of(rng, spec, [PAGE_SIZE], "float32")
        q = np.zeros((1, 16), "float32")
        q[0, 0] = 100.0
        held.pages[held.page_table[0, 0], 0, : PAGE_SIZE * 16 : 16] = level
        held.k[0][:, 0, 0] = level
        out, zero = np.full((1, 16), np.nan, "float32"), np.zeros(1, "int32")
        kernel = make(spec, "float32", "float32").decode
        run(kernel, q, zero + PAGE_SIZE - 1, zero, held.page_table, held.pages, out)
        np.testing.assert_allclose(out[0], held.v[0][:, 0].mean(0), rtol=0, atol=1e-6)
