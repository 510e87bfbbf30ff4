"""Attention of single tokens, on the emulated GPU, against NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import decode_attention

from mlc_llm.compile.gpu.attention import decode as shared_decode
from mlc_llm.plugin import PAGE_SIZE, AttentionSpec
from mlc_llm.testing.gpu_kernels.attention import LENGTHS, SEEN
from mlc_llm.testing.paged_attention import Sequences, attention, describe, scratch

from .gpu import GPU
from .marks import only_in_matrix
from .target import TARGET

CAPABILITIES = capabilities_of(TARGET)
SPLIT = 128
"""Keys that a split has at least."""

Rows = Sequence[tuple[int, int]]
"""Sequences and positions."""


@pytest.fixture(params=["forward", "reverse"])
def ordered(gpu: GPU, request: pytest.FixtureRequest) -> Iterator[GPU]:
    """The GPU, whose threads and blocks run in one order and in the other."""
    gpu.set("ORDER", request.param)
    yield gpu
    gpu.set("ORDER", None)


class Attended:
    """Sequences of random keys and values, and rows that attend to them.

    Args:
        spec: how they attend.
        lengths: of the sequences.
        rows: by default the last token of each sequence.
    """

    def __init__(self, spec: AttentionSpec, lengths: Sequence[int], rows: Rows = ()) -> None:
        rng = np.random.default_rng(sum(lengths))
        self.spec, self.held = spec, Sequences.of(rng, spec, lengths, "float16")
        self.rows = list(rows) or [(i, n - 1) for i, n in enumerate(lengths)]
        self.q = rng.standard_normal((len(self.rows), spec.query_heads, spec.key_size))
        self.q = self.q.astype("float16")
        sinks = rng.standard_normal(spec.query_heads).astype("float32") * 3
        self.sinks = [sinks] if spec.sink_logits else []

    def run(self, gpu: GPU, chosen: Sequence[int] | None = None) -> np.ndarray:
        """What rows attend to, in one call: (rows, query heads, value size).

        Args:
            gpu: where.
            chosen: numbers of the rows; all of them by default.
        """
        chosen, spec = list(range(len(self.rows)) if chosen is None else chosen), self.spec
        sequences, positions = np.array([self.rows[i] for i in chosen], "int32").T
        qkv = np.full((len(chosen), spec.qkv_width), np.nan, "float16")
        qkv[:, : self.q[0].size] = self.q[chosen].reshape(len(chosen), -1)
        out = np.full((len(chosen), spec.out_width), np.nan, "float16")
        kernel = decode_attention.decode(spec, "float16", "float16", CAPABILITIES)
        assert kernel is not shared_decode(spec, "float16", "float16", CAPABILITIES)
        # No wider than the longest sequence: there is nothing to read behind its last page.
        width = -(-max(self.held.lengths) // PAGE_SIZE)
        tables = (positions, sequences, np.ascontiguousarray(self.held.page_table[:, :width]))
        given = [qkv, *tables, self.held.pages, *self.sinks, out]
        gpu.run_kernel(kernel, *given, *scratch(kernel, len(given)))
        return out.reshape(len(chosen), spec.query_heads, spec.value_size)

    def check(self, gpu: GPU) -> None:
        """Results are those of NumPy rounded to float16, and hardly anything is lost before."""
        for found, q, (sequence, position) in zip(self.run(gpu), self.q, self.rows, strict=True):
            k, v = (x[sequence][: position + 1] for x in (self.held.k, self.held.v))
            at = np.array([position])
            (exact,) = attention(self.spec, q[None], k, v, at, *self.sinks)
            assert (np.abs(found - exact) <= np.abs(exact) * 2.0**-11 + 1e-5).all()


GROUPED = describe((6, 2), 32, value_size=24)
MANY = [(1, 20), (0, 0), (1, 5), (1, 299), (2, 15), (0, 127), (0, 128)]
"""Rows whose pages and splits are full, and not full; several of one sequence."""


def test_rows_of_several_sequences(ordered: GPU) -> None:
    Attended(GROUPED, [129, 300, 16], MANY).check(ordered)


def test_a_row_is_the_same_whatever_is_beside_it(gpu: GPU, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: alone, with others, and where a block takes several splits."""
    attended = Attended(GROUPED, [129, 300, 16], MANY)
    together = attended.run(gpu)
    for row in range(len(MANY)):
        np.testing.assert_array_equal(attended.run(gpu, [row])[0], together[row])
    monkeypatch.setattr(decode_attention, "MOST_BLOCKS", 1)
    monkeypatch.setattr(decode_attention, "decode", decode_attention.decode.__wrapped__)
    np.testing.assert_array_equal(attended.run(gpu), together)


def test_more_rows_than_a_launch_has(gpu: GPU) -> None:
    rows = [(0, 7 * i) for i in range(decode_attention.MOST_ROWS + 2)]
    Attended(GROUPED, [300], rows).check(gpu)


def test_small_weights_count(gpu: GPU) -> None:
    """Many keys have together what none of them would have if its weight were a half of its own."""
    length = 600
    attended = Attended(GROUPED, [length])
    for position in range(length):
        keys, values = attended.held.slot(0, position)
        keys[...], values[...] = 0.0, 1000.0 * (position > 0)
        keys[:, 0] = 64.0 * (position == 0)
    attended.q[...] = 0.0
    attended.q[..., 0] = 27.0 * np.log(2.0) * 32**0.5 / 64  # The first key's weight is 2^27.
    score = float(attended.q[0, 0, 0]) * 64.0 / 32**0.5
    exact = 1000.0 / (1.0 + np.exp(score) / (length - 1))
    np.testing.assert_allclose(attended.run(gpu)[0], exact, rtol=1e-3)


def test_windows_sinks_and_caps(ordered: GPU) -> None:
    """The keys of sinks are beside the window, within it, and in its first page."""
    more: dict[str, Any] = {"window": 150, "sink": 20, "sink_logits": True, "soft_cap": 2.0}
    rows = [(0, p) for p in (0, 3, 25, 149, 150, 160, 180, 299)]
    Attended(describe((4, 2), 24, scale=1.0, value_size=40, **more), [300], rows).check(ordered)


@pytest.mark.cuda_matrix
@pytest.mark.parametrize("case", SEEN)
def test_layers_that_the_shared_kernel_is_tested_with(ordered: GPU, case: str) -> None:
    heads, size, more = SEEN[case]
    Attended(describe(heads, size, **more), LENGTHS).check(ordered)


LAYERS: dict[str, tuple[tuple[int, int], int, dict[str, Any]]] = {
    "Llama 2": ((4, 4), 128, {}),
    "Llama 3": ((8, 2), 128, {}),
    "Gemma 2": ((4, 2), 256, {"soft_cap": 50.0}),
    "GPT-OSS": ((16, 2), 64, {"window": 128, "sink_logits": True}),
    "groups of 16": ((32, 2), 128, {}),
    "groups of 16 wide heads": ((16, 1), 192, {}),
    "one key head": ((19, 1), 64, {}),
    "wide keys": ((2, 2), 192, {"value_size": 128}),
    "wide values": ((2, 1), 72, {"value_size": 136}),
}
REPRESENTATIVE = ["Llama 2", "GPT-OSS", "groups of 16 wide heads"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer",
    [*REPRESENTATIVE, *only_in_matrix(name for name in LAYERS if name not in REPRESENTATIVE)],
)
def test_layers_of_models(ordered: GPU, layer: str) -> None:
    heads, size, more = LAYERS[layer]
    Attended(describe(heads, size, **more), [16, 517]).check(ordered)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"window": 4096, "sink": 4}, {"window": 1000}])
def test_long_sequences(gpu: GPU, more: dict[str, Any]) -> None:
    rows = [(0, p) for p in (4095, 4096, 8191, 9000)]
    Attended(describe((4, 1), 64, **more), [9001], rows).check(gpu)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "window", "groups of 16"])
def test_every_access_is_checked(preload: str, case: str) -> None:
    """No races, and nothing out of bounds."""
    layers = {
        "plain": describe((6, 2), 40, value_size=72),
        "window": describe((2, 2), 32, window=150, sink=20, sink_logits=True),
        "groups of 16": describe((16, 1), 136),
    }
    with GPU(preload, GPU_EMULATOR_CHECK="1", GPU_EMULATOR_ORDER="random") as gpu:
        Attended(layers[case], [129, 300, 16], MANY).check(gpu)
        Attended(layers[case], [300]).check(gpu)


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 512])
def test_keys_and_values_are_read_once(preload: str, tmp_path: Path, window: int | None) -> None:
    """Those that are seen, and little else: queries, and tables."""
    trace, position = tmp_path / "trace", 2399
    variables = {"GPU_EMULATOR_CHECK": "1", "GPU_EMULATOR_TRACE": str(trace)}
    spec = describe((8, 2), 128, window=window)
    with GPU(preload, **variables) as gpu:
        Attended(spec, [position + 1]).check(gpu)
    split, join = map(json.loads, trace.read_text().splitlines())
    seen = position + 1 if window is None else window
    least = seen * spec.kv_heads * (spec.key_size + spec.value_size) * 2
    assert least <= split["read_once"] <= split["read_by_blocks"] <= 1.03 * least
    assert split["read"] <= 1.15 * least  # All threads of a block look at the same tables.
    records = -(-seen // SPLIT) * spec.query_heads * (spec.value_size + 2) * 4
    assert split["written"] <= records + spec.query_heads * (spec.value_size + 2) * 4
    assert join["read_by_blocks"] <= 1.2 * split["written"]
    assert join["written"] == spec.out_width * 2


@pytest.mark.parametrize(
    ("size", "dtypes"),
    [
        (4, ("float16", "float16")),
        (20, ("float16", "float16")),
        (264, ("float16", "float16")),
        (16, ("float32", "float32")),
        (16, ("float16", "float32")),
    ],
)
def test_the_shared_kernel_takes_the_rest(size: int, dtypes: tuple[str, str]) -> None:
    spec = describe((2, 1), size)
    kernel = decode_attention.decode(spec, *dtypes, CAPABILITIES)
    assert kernel is shared_decode(spec, *dtypes, CAPABILITIES)


def test_an_older_gpu_has_the_shared_kernel() -> None:
    spec, older = describe((2, 1), 16), capabilities_of(TARGET | {"arch": "sm_75"})
    kernel = decode_attention.decode(spec, "float16", "float16", older)
    assert kernel is shared_decode(spec, "float16", "float16", older)
