"""Attention of many tokens on tensor cores, on the emulated GPU, against NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlc_llm_cuda.codegen import CUDACodegen, capabilities_of
from mlc_llm_cuda.kernels import prefill_attention

from mlc_llm.compile.gpu.attention import prefill as shared_prefill
from mlc_llm.plugin import PAGE_SIZE, AttentionKernels, AttentionSpec
from mlc_llm.testing import paged_attention as paged
from mlc_llm.testing.gpu_kernels.attention import PARTS, SEEN

from .gpu import GPU
from .marks import only_in_matrix
from .target import TARGET

CAPABILITIES = capabilities_of(TARGET)
HALF = ("float16", "float16")

KINDS: dict[str, AttentionSpec] = {
    "grouped": paged.describe((6, 2), 32),
    "window and sink": paged.describe((4, 2), 16, window=21, sink=4),
    "sink logits": paged.describe((4, 2), 16, sink_logits=True),
    "soft cap": paged.describe((2, 1), 16, soft_cap=2.0, scale=1.0),
}
WIDE: dict[str, AttentionSpec] = {
    "Llama 2": paged.describe((2, 2), 128),
    "Gemma": paged.describe((2, 1), 256, soft_cap=50.0),
    "gpt-oss": paged.describe((16, 2), 64, window=128, sink_logits=True),
    "keys wider than values": paged.describe((4, 1), 192, value_size=128),
    "values wider than keys": paged.describe((3, 1), 48, value_size=80),
    "one head for all": paged.describe((71, 1), 64),
    "window of one": paged.describe((8, 1), 16, window=1, value_size=112),
    "window that ends in a tile, long sink": paged.describe((4, 2), 32, window=150, sink=70),
}


WIDER = [kind for kind in WIDE if kind not in ("Gemma", "gpt-oss")]
REPRESENTATIVE = ["grouped", "window and sink", "Gemma"]


def make(spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
    """The kernel, as it is made for CUDA."""
    kernel = CUDACodegen.kernels.prefill(spec, dtype, activation_dtype, CAPABILITIES)
    return AttentionKernels(append=None, rotate=None, prefill=kernel, decode=kernel)


@dataclass
class Pass:
    """The new tokens of some sequences, whose keys and values are in pages.

    Args:
        spec: how the layer attends.
        parts: of each sequence (tokens before, new ones).
        seed: of the random numbers.
    """

    spec: AttentionSpec
    parts: Sequence[tuple[int, int]]
    seed: int = 0

    def __post_init__(self) -> None:
        spec, rng = self.spec, np.random.default_rng(self.seed)
        lengths = [before + new for before, new in self.parts]
        self.held = paged.Sequences.of(rng, spec, lengths, "float16")
        heads = (spec.query_heads, spec.key_size)
        self.q = [rng.standard_normal((n, *heads)).astype("float16") for n in lengths]
        logits = rng.standard_normal(spec.query_heads).astype("float32") * 3
        self.sinks = (logits,) if spec.sink_logits else ()

    def run(self, gpu: GPU, parts: Sequence[tuple[int, int]] | None = None) -> list[np.ndarray]:
        """What the new tokens of each sequence attend to; of `parts` where they are given."""
        parts = self.parts if parts is None else parts
        starts = np.cumsum([0, *(new for _, new in parts)]).astype("int32")
        positions = np.concatenate([np.arange(b, b + n, dtype="int32") for b, n in parts])
        sequences = np.repeat(np.arange(len(parts), dtype="int32"), [n for _, n in parts])
        qkv = np.full((starts[-1], self.spec.qkv_width), np.nan, "float16")
        q = np.concatenate([x[b : b + n] for x, (b, n) in zip(self.q, parts, strict=True)])
        qkv[:, : q[0].size] = q.reshape(len(q), -1)
        out = np.full((starts[-1], self.spec.out_width), np.nan, "float16")
        tables = (positions, sequences, starts, self.held.page_table, self.held.pages)
        gpu.run_kernel(make(self.spec, *HALF).prefill, qkv, *tables, *self.sinks, out)
        return np.split(out, starts[1:-1])

    def check(self, gpu: GPU) -> None:
        """Results are as exact as `prefill_attention.py` says, but for their own rounding."""
        for i, out in enumerate(self.run(gpu)):
            before, new = self.parts[i]
            positions = np.arange(before, before + new)
            q, k, v = self.q[i][before:], self.held.k[i], self.held.v[i]
            exact = paged.attention(self.spec, q, k, v, positions, *self.sinks)
            terms = paged.attention(self.spec, q, k, abs(v), positions, *self.sinks)
            bound = 2**-11 * (terms + abs(exact)) + 2**-25 * abs(v.astype("f8")).sum(0).max() + 1e-5
            assert (abs(out.reshape(exact.shape) - exact) <= bound).all()


@pytest.fixture(params=["forward", "reverse"])
def ordered(gpu: GPU, request: pytest.FixtureRequest) -> Iterator[GPU]:
    """The GPU, whose threads and blocks run in one order and in the other."""
    gpu.set("ORDER", request.param)
    yield gpu
    gpu.set("ORDER", None)


@pytest.mark.parametrize("kind", KINDS)
def test_new_tokens_attend_to_what_they_see(gpu: GPU, kind: str) -> None:
    """Sequences that begin, that go on within a tile, and that have no token or a single one."""
    Pass(KINDS[kind], [(40, 3), (0, 35), (16, 0), (0, 1), (126, 37)]).check(gpu)


@pytest.mark.parametrize("window", [None, 21])
def test_a_row_is_the_same_however_a_prompt_is_cut(gpu: GPU, window: int | None) -> None:
    """To the bit, and whoever else is in the pass."""
    spec = paged.describe((2, 1), 16, window=window)
    both = Pass(spec, [(0, 100), (0, 20)])
    whole = both.run(gpu)[0]
    cut = [both.run(gpu, [part, (7, 0)])[0] for part in [(0, 37), (37, 34), (71, 29)]]
    np.testing.assert_array_equal(np.concatenate(cut), whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "Gemma", "gpt-oss", *only_in_matrix(WIDER)])
def test_in_any_order(ordered: GPU, kind: str) -> None:
    Pass((KINDS | WIDE)[kind], [(40, 3), (0, 75), (0, 1), (250, 33), (64, 64)], seed=1).check(
        ordered
    )


@pytest.mark.cuda_matrix
@pytest.mark.parametrize(
    "case", [case for case, (_, _, more) in SEEN.items() if more.get("value_size", 16) % 16 == 0]
)
def test_the_shared_suite_in_float16(gpu: GPU, case: str) -> None:
    heads, size, more = SEEN[case]
    size = size // 16 * 16
    spec, rng = paged.describe(heads, size, **more), np.random.default_rng(20240607)
    assert prefill_attention.is_covered(spec, *HALF, CAPABILITIES)
    paged.check_prefill(gpu.run_kernel, make, rng, spec, PARTS, "float16")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [*REPRESENTATIVE, *only_in_matrix(["sink logits", "soft cap", "values wider than keys"])],
)
def test_every_access_is_checked(preload: str, kind: str) -> None:
    """No races, and nothing out of bounds."""
    with GPU(preload, GPU_EMULATOR_CHECK="1", GPU_EMULATOR_ORDER="random") as gpu:
        Pass((KINDS | WIDE)[kind], [(40, 3), (0, 75), (130, 33)]).check(gpu)


@pytest.mark.slow
@pytest.mark.parametrize(("window", "tiles"), [(None, 11), (100, 3)])
def test_tiles_are_read_that_a_row_sees(
    preload: str, tmp_path: Path, window: int | None, tiles: int
) -> None:
    """Of 64 keys, once for all heads that share them, and no page after the last key."""
    trace = tmp_path / "trace"
    spec = paged.describe((4, 1), 16, window=window, sink=4 if window else 0)
    variables = {"GPU_EMULATOR_CHECK": "1", "GPU_EMULATOR_TRACE": str(trace)}
    with GPU(preload, **variables) as gpu:
        Pass(spec, [(688, 16)]).run(gpu)  # one block of 64 rows; keys up to a tile's end
    (launch,) = map(json.loads, trace.read_text().splitlines())
    read = tiles * 64 * (spec.key_size + spec.value_size) * 2
    other = 16 * spec.query_heads * spec.key_size * 2 + 704 // PAGE_SIZE * 4 + 16 * 4 * 3
    assert read <= launch["read_by_blocks"] <= read + other + 6 * 32


@pytest.mark.parametrize(
    ("size", "more", "dtypes"),
    [
        (24, {}, HALF),
        (272, {}, HALF),
        (16, {"value_size": 40}, HALF),
        (16, {"scale": -0.25}, HALF),
        (16, {}, ("float32", "float32")),
        (16, {}, ("float16", "float32")),
    ],
)
def test_the_shared_kernel_takes_the_rest(
    size: int, more: dict[str, Any], dtypes: tuple[str, str]
) -> None:
    spec = paged.describe((2, 1), size, **more)
    shared = shared_prefill(spec, *dtypes, CAPABILITIES)
    assert prefill_attention.prefill(spec, *dtypes, CAPABILITIES) is shared


def test_an_older_gpu_has_the_shared_kernel() -> None:
    older, spec = capabilities_of(TARGET | {"arch": "sm_75"}), paged.describe((2, 1), 16)
    shared = shared_prefill(spec, *HALF, older)
    assert prefill_attention.prefill(spec, *HALF, older) is shared
