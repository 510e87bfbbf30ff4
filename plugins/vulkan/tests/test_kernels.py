"""The kernels that GPUs share, on Vulkan, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from mlc_llm_vulkan import DEVICE

from mlc_llm.compile.gpu.facts import GPUFacts
from mlc_llm.compile.gpu.kernels import attention, kv_cache
from mlc_llm.compile.gpu.kernels.activation import silu_mul
from mlc_llm.compile.gpu.kernels.embedding import embedding
from mlc_llm.compile.gpu.kernels.linear import gemv, matmul
from mlc_llm.compile.gpu.kernels.norm import rms_norm
from mlc_llm.compile.gpu.kernels.rope import split_rotary
from mlc_llm.compile.gpu.kernels.weight import FloatWeight, Q4Weight, Weight
from mlc_llm.compile.rope import inverse_frequencies
from mlc_llm.plugin import Availability
from mlc_llm.quantization.packing import dequantize, quantize
from mlc_llm.quantization.scheme import scheme
from mlc_llm.testing import paged_attention as paged

Run = Callable[..., None]
THREADS = 64
SHAPES = [(96, 33), (300, 5)]
"""Columns and rows: groups and words that end with a row or within it."""


@pytest.fixture(scope="module")
def run(vulkan: Availability, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Compiles a kernel and runs it; NumPy arrays are passed as tensors and take the results."""
    folder: Path = tmp_path_factory.mktemp("kernels")
    target = tvm.target.Target(DEVICE.target(), host={"kind": "llvm"})
    device = DEVICE.open(0)
    built: dict[Any, Any] = {}

    def run(kernel: Any, *arguments: Any) -> None:
        if kernel not in built:
            library = folder / f"{len(built)}.so"
            tvm.compile(kernel, target).export_library(str(library))
            module = tvm.runtime.load_module(str(library))
            built[kernel] = module[str(kernel.attrs["global_symbol"])]
        passed = [
            tvm.runtime.tensor(np.ascontiguousarray(a), device) if isinstance(a, np.ndarray) else a
            for a in arguments
        ]
        built[kernel](*passed)
        for given, tensor in zip(arguments, passed, strict=True):
            if isinstance(given, np.ndarray):
                given[...] = tensor.numpy()

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


def stored(
    rng: np.random.Generator, rows: int, columns: int, quantization: str
) -> tuple[Weight, tuple[np.ndarray, ...], np.ndarray]:
    """A random weight: how it is stored, its tensors, and its values."""
    values = rng.standard_normal((rows, columns)).astype("float32")
    kind = scheme(quantization)
    if kind.kind == "group":
        tensors = quantize(values, kind)
        return Q4Weight(columns, kind.model_dtype), tensors, dequantize(*tensors, columns)
    rounded = values.astype(kind.model_dtype)
    return FloatWeight(columns, kind.model_dtype), (rounded,), rounded.astype("float32")


@pytest.mark.parametrize("quantization", ["q4f16_1", "q4f32_1", "q0f16", "q0f32"])
@pytest.mark.parametrize(("columns", "rows"), SHAPES)
def test_linear(
    run: Run, rng: np.random.Generator, columns: int, rows: int, quantization: str
) -> None:
    weight, tensors, values = stored(rng, rows, columns, quantization)
    outputs = rows if rows == 33 else None  # taken from the tensors
    for tokens in (1, 37):
        x = rng.standard_normal((tokens, columns)).astype(weight.dtype)
        y = np.full((tokens, rows), np.nan, "float32")
        if tokens == 1:
            kernel = gemv(weight, outputs, weight.dtype, "float32", THREADS)
        else:
            kernel = matmul(weight, outputs, weight.dtype, "float32")
        run(kernel, x, *tensors, y)
        np.testing.assert_allclose(y, x.astype("float32") @ values.T, rtol=0, atol=2e-4)


@pytest.mark.parametrize("quantization", ["q4f16_1", "q0f32"])
def test_embedding(run: Run, rng: np.random.Generator, quantization: str) -> None:
    table, tensors, values = stored(rng, 20, 100, quantization)
    ids = np.array([3, 19, 0, 3], "int32")
    out = np.full((4, 100), np.nan, table.dtype)
    run(embedding(table, table.dtype, THREADS), ids, *tensors, out)
    np.testing.assert_array_equal(out, values[ids].astype(table.dtype))


def test_norm_and_activation(run: Run, rng: np.random.Generator) -> None:
    x = rng.standard_normal((5, 600)).astype("float32")
    w = rng.standard_normal(600).astype("float32")
    y = np.full_like(x, np.nan)
    run(rms_norm(600, 1e-5, "float32", "float32", 128), x, w, y)
    want = x / np.sqrt((x.astype("float64") ** 2).mean(-1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-6)

    gate, up = (10 * x[:, part] for part in (slice(0, 300), slice(300, 600)))
    gate[0, :2] = -200, 200
    both, out = np.concatenate([gate, up], 1), np.full((5, 300), np.nan, "float32")
    run(silu_mul(300, "float32", THREADS), both, out)
    want = gate / (1 + np.exp(-gate.astype("float64"))) * up
    np.testing.assert_allclose(out, want, rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("head_dim", [8, 24])
def test_rotary(run: Run, rng: np.random.Generator, head_dim: int) -> None:
    """Far positions too, where a GPU's own sine is wrong."""
    hq, hkv = 3, 2
    frequencies = inverse_frequencies(head_dim, 10000.0)
    qkv = rng.standard_normal((6, hq + 2 * hkv, head_dim)).astype("float32")
    position = np.array([0, 1, 2, 100, 5000, 100000], "int32")
    q, k, v = (np.full((6, n, head_dim), np.nan, "float32") for n in (hq, hkv, hkv))
    kernel = split_rotary(hq, hkv, head_dim, "float32", frequencies, THREADS)
    run(kernel, qkv, position, q, k, v, 1)
    angle = position[:, None].astype("float32") * np.array(frequencies, "float32")
    cos, sin = (f(angle.astype("float64"))[:, None] for f in (np.cos, np.sin))
    a, b = qkv[..., : head_dim // 2], qkv[..., head_dim // 2 :]
    want = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    np.testing.assert_allclose(np.concatenate([q, k], 1), want[:, : hq + hkv], rtol=0, atol=2e-5)
    np.testing.assert_array_equal(v, qkv[:, hq + hkv :])
    run(kernel, qkv, position, q, k, v, 0)
    np.testing.assert_array_equal(np.concatenate([q, k, v], 1), qkv)


def make(kernel: Callable[..., Any], threads: int) -> Callable[..., Any]:
    facts = GPUFacts.of(DEVICE.target())
    return lambda *shape: kernel(attention.Geometry(*shape), threads, facts.shared_memory)


@pytest.mark.parametrize(
    ("heads", "d", "window", "sink"),
    [
        ((10, 2), 80, None, 0),
        ((4, 2), 16, 21, 4),
    ],
)
def test_attention(
    run: Run,
    rng: np.random.Generator,
    heads: tuple[int, int],
    d: int,
    window: int | None,
    sink: int,
) -> None:
    visible = {"window": window, "sink": sink}
    lengths = [33, 0, 1, 150]
    paged.check_decode(run, make(attention.decode, 128), rng, lengths, heads, d, **visible)
    prefill = make(attention.prefill_paged, 64)
    paged.check_paged(run, prefill, rng, [40, 0, 17], [3, 2, 33], heads, d, **visible)
    if window is None:
        paged.check_paged(run, prefill, rng, [40, 17], [3, 17], heads, d, causal=1)
    ragged = make(attention.prefill_ragged, 64)
    for past in (0, 2, 50):
        paged.check_ragged(run, ragged, rng, [3, 75], [3, 75], heads, d, **visible, past=past)


def test_attention_in_float16(run: Run, rng: np.random.Generator) -> None:
    heads, options = (4, 2), {"dtype": "float16", "window": 21}
    paged.check_decode(run, make(attention.decode, 128), rng, [17, 33], heads, 32, **options)
    ragged = make(attention.prefill_ragged, 64)
    paged.check_ragged(run, ragged, rng, [33], [33], heads, 32, **options)


def test_merge(run: Run, rng: np.random.Generator) -> None:
    out, other = (rng.standard_normal((3, 2, 24)).astype("float32") for _ in range(2))
    lse, other_lse = (rng.standard_normal((3, 2)).astype("float32") for _ in range(2))
    other_lse[0] = -5e4  # nothing was seen
    weights = np.exp2(np.stack([lse, other_lse]).astype("float64"))
    want = (weights[0, ..., None] * out + weights[1, ..., None] * other) / weights.sum(0)[..., None]
    run(attention.merge_state(2, 24, "float32", THREADS), out, lse, other, other_lse)
    np.testing.assert_allclose(out, want, rtol=0, atol=2e-6)
    np.testing.assert_allclose(lse, np.log2(weights.sum(0)), rtol=0, atol=2e-6)


def slots(pages: np.ndarray, which: int) -> np.ndarray:
    """A view (slots, heads, d) copy of the keys (0) or values (1)."""
    return pages[:, which].transpose(0, 2, 1, 3).reshape(-1, pages.shape[2], pages.shape[4])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_moving_keys_and_values(run: Run, rng: np.random.Generator, dtype: str) -> None:
    heads, d = 3, 24
    pages = np.zeros((4, 2, heads, 16, d), dtype)
    k, v = (rng.standard_normal((5, heads, d)).astype(dtype) for _ in range(2))
    where = np.array([15, 16, -1, 63, 0], "int32")
    run(kv_cache.transpose_append(heads, d, dtype, THREADS), pages, k, v, where)
    kept = where >= 0
    np.testing.assert_array_equal(slots(pages, 0)[where[kept]], k[kept])
    np.testing.assert_array_equal(slots(pages, 1)[where[kept]], v[kept])
    assert np.count_nonzero(np.abs(slots(pages, 0)).sum((1, 2))) == kept.sum()

    found = [np.zeros((2, int(kept.sum()), heads, d), dtype) for _ in range(2)]
    run(kv_cache.debug_get_kv(2, heads, d, dtype, THREADS), pages, where[kept], *found, 1)
    np.testing.assert_array_equal(found[0][1], k[kept])
    np.testing.assert_array_equal(found[1][1], v[kept])

    want = pages.copy()
    want[2, :, :, :5] = want[0, :, :, :5]
    run(kv_cache.copy_single_page(heads, d, dtype, THREADS), pages, 0, 2, 5)
    np.testing.assert_array_equal(pages, want)


def test_compaction_moves_in_order(run: Run, rng: np.random.Generator) -> None:
    pages = rng.standard_normal((3, 2, 2, 16, 8)).astype("float32")
    moves = np.array([[20, 21, 33, 40], [18, 20, 30, 33]], "int32")
    want = pages.copy()
    for source, target in moves.T:
        a, b = divmod(source, 16), divmod(target, 16)
        want[b[0], :, :, b[1]] = want[a[0], :, :, a[1]]
    kernel = kv_cache.compact_kv_copy(2, 8, "float32", THREADS)
    run(kernel, pages, np.array([0, 2, 4], "int32"), moves, 2)
    np.testing.assert_array_equal(pages, want)
