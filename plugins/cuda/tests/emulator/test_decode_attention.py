"""Attention of single tokens, on the emulated GPU, against NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import decode_attention
from mlc_llm_cuda.kernels.decode_attention import splits_of

from mlc_llm.compile.gpu.attention import decode as shared_decode
from mlc_llm.plugin import AttentionSpec
from mlc_llm.testing.gpu_kernels.attention import SEEN
from mlc_llm.testing.paged_attention import Sequences, attention, describe

from .gpu import GPU
from .target import TARGET

CAPABILITIES = capabilities_of(TARGET)
KEYS_OF_A_SPLIT = 128
"""As many at least."""

Rows = Sequence[tuple[int, int]]
"""Sequences and positions."""


@pytest.fixture(params=["forward", "reverse"])
def ordered(gpu: GPU, request: pytest.FixtureRequest) -> Iterator[GPU]:
    """The GPU, whose threads and blocks run in one order and in the other."""
    gpu.set("ORDER", request.param)
    yield gpu
    gpu.set("ORDER", None)


class Attended:
    """Sequences of random keys and values, and rows that attend to them."""

    def __init__(self, spec: AttentionSpec, lengths: Sequence[int], rows: Rows = ()) -> None:
        rng = np.random.default_rng(sum(lengths))
        self.spec, self.held = spec, Sequences.of(rng, spec, lengths, "float16")
        self.rows = list(rows) or [(i, n - 1) for i, n in enumerate(lengths)]
        width = spec.query_heads * spec.key_size
        self.qkv = np.full((len(self.rows), spec.qkv_width), np.nan, "float16")
        self.qkv[:, :width] = rng.standard_normal((len(self.rows), width))
        sinks = rng.standard_normal(spec.query_heads).astype("float32") * 3
        self.sinks = [sinks] if spec.sink_logits else []

    def run(self, gpu: GPU, chosen: Sequence[int] | None = None) -> np.ndarray:
        """What rows attend to, in one call: all of them, or some."""
        chosen = range(len(self.rows)) if chosen is None else chosen
        sequences, positions = np.array([self.rows[i] for i in chosen], "int32").T
        out = np.full((len(chosen), self.spec.out_width), np.nan, "float16")
        kernel = decode_attention.decode(self.spec, "float16", "float16", CAPABILITIES)
        assert kernel is not shared_decode(self.spec, "float16", "float16", CAPABILITIES)
        tables = (positions, sequences, self.held.page_table)
        gpu.run_kernel(kernel, self.qkv[list(chosen)], *tables, self.held.pages, *self.sinks, out)
        return out

    def check(self, gpu: GPU, level: float = 1.0) -> None:
        """Results are rounded to float16, and hardly anything before that.

        Args:
            gpu: where.
            level: the size of values.
        """
        out, spec = self.run(gpu), self.spec
        for found, qkv, (sequence, position) in zip(out, self.qkv, self.rows, strict=True):
            q = qkv[: spec.query_heads * spec.key_size].reshape(1, spec.query_heads, -1)
            k, v = (x[sequence][: position + 1] for x in (self.held.k, self.held.v))
            (exact,) = attention(spec, q, k, v, np.array([position]), *self.sinks)
            bound = np.abs(exact) * 2.0**-11 + level * 1e-5
            assert (np.abs(found.reshape(exact.shape) - exact) <= bound).all()


def test_rows_of_several_sequences(ordered: GPU) -> None:
    """Splits and pages that are full, and that are not; several rows of one sequence."""
    rows = [(1, 20), (0, 0), (1, 5), (1, 299), (2, 15), (0, 127), (0, 128)]
    Attended(describe((6, 2), 32, value_size=24), [129, 300, 16], rows).check(ordered)
