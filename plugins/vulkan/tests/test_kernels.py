"""The kernels that GPUs share, on Vulkan, against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from mlc_llm_vulkan import DEVICE

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen
from mlc_llm.compile.gpu.kernels.activation import FUNCTIONS, activation, gated
from mlc_llm.compile.gpu.kernels.embedding import embedding
from mlc_llm.compile.gpu.kernels.linear import Product, gemv, matmul
from mlc_llm.compile.gpu.kernels.norm import head_norm, layer_norm, rms_norm
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.plugin import PAGE_SIZE, AttentionKernels, Availability, Rope
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.testing import paged_attention as paged

Run = Callable[..., None]
GPU = GPUCapabilities.of(DEVICE.target())
UNIT = 2.0**-24
"""Unit of roundoff of float32."""
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


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize(("columns", "rows"), SHAPES)
def test_linear(
    run: Run, rng: np.random.Generator, columns: int, rows: int, scheme: Scheme
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
        run(make(product, GPU), x, *tensors, *([bias] if has_bias else []), y)
        exact = x.astype("float64") @ values.T + bias
        terms = np.abs(x.astype("float64")) @ _magnitudes(tensors, values, scheme).T + np.abs(bias)
        assert (np.abs(y - exact) <= (columns + 2) * UNIT * terms).all()


def _magnitudes(tensors: list[np.ndarray], values: np.ndarray, scheme: Scheme) -> np.ndarray:
    """What products are made of: with a minimum, the two parts of a weight."""
    if not scheme.has_minimum:
        return np.abs(values)
    minimums = tensors[-1].T if scheme.layout == "columns" else tensors[-1]
    minimums = np.repeat(minimums.astype("float64"), scheme.group, 1)[:, : values.shape[1]]
    return np.abs(values - minimums) + np.abs(minimums)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_embedding(run: Run, rng: np.random.Generator, scheme: Scheme) -> None:
    tensors, values = stored(rng, 20, 101, scheme)
    ids = np.array([3, 19, 0, 3], "int32")
    out = np.full((4, 101), np.nan, "float32")
    run(embedding(weight_of(scheme, 101), "float32", GPU), ids, *tensors, out)
    sizes = _magnitudes(tensors, values, scheme)[ids]
    assert (np.abs(out - values[ids]) <= 2 * UNIT * sizes).all()


def spread(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Rows of many sizes, one of which is zero and one far from it."""
    x = rng.standard_normal((5, columns)).astype("float32")
    x[1] *= 1e-4
    x[2] *= 1e6
    x[3] = 0.0
    x[4] += 1000.0
    return x


@pytest.mark.parametrize("columns", [7, 601])
@pytest.mark.parametrize("unit_offset", [False, True])
def test_rms_norm(run: Run, rng: np.random.Generator, columns: int, unit_offset: bool) -> None:
    x, w = spread(rng, columns), rng.standard_normal(columns).astype("float16")
    y = np.full_like(x, np.nan)
    run(rms_norm(columns, 1e-5, unit_offset, "float16", "float32", GPU), x, w, y)
    want = rms(x, w + np.float64(unit_offset))
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-30)


def rms(x: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The definition, for an epsilon of 1e-5."""
    x = x.astype("float64")
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * factor


@pytest.mark.parametrize("columns", [7, 601])
@pytest.mark.parametrize("has_bias", [False, True])
def test_layer_norm(run: Run, rng: np.random.Generator, columns: int, has_bias: bool) -> None:
    x, w, b = spread(rng, columns), *rng.standard_normal((2, columns)).astype("float32")
    y = np.full_like(x, np.nan)
    dtypes = ("float32", "float32" if has_bias else None, "float32")
    run(layer_norm(columns, 1e-5, *dtypes, GPU), x, w, *([b] if has_bias else []), y)
    mean = x.astype("float64").mean(-1, keepdims=True)
    factor = w / np.sqrt((x.astype("float64") - mean).var(-1, keepdims=True) + 1e-5)
    sizes = (np.abs(x) + np.abs(mean)) * np.abs(factor) + np.abs(b)
    assert (np.abs(y - (x - mean) * factor - b * has_bias) <= 20 * UNIT * sizes).all()


def test_norms_of_the_largest_float16(run: Run) -> None:
    x, w, y = (np.full((2, 300), value, "float16") for value in (65504, 1, np.nan))
    x[1, ::2] = -65504
    run(rms_norm(300, 1e-5, False, "float16", "float16", GPU), x, w[0], y)
    np.testing.assert_array_equal(y, np.sign(x))
    run(layer_norm(300, 1e-5, "float16", None, "float16", GPU), x, w[0], y)
    np.testing.assert_array_equal(y, [np.zeros(300), np.sign(x[1])])


@pytest.mark.parametrize("unit_offset", [False, True])
@pytest.mark.parametrize("value_size", [8, 20, 33])
def test_head_norm(run: Run, rng: np.random.Generator, unit_offset: bool, value_size: int) -> None:
    spec = paged.describe((6, 3), 20, value_size=value_size)
    qkv = rng.standard_normal((4, spec.qkv_width)).astype("float32")
    queries, keys = rng.standard_normal((2, 20)).astype("float32")
    y = np.full_like(qkv, np.nan)
    run(head_norm(spec, 1e-5, unit_offset, "float32", "float32", GPU), qkv, queries, keys, y)
    heads = qkv[:, : 9 * 20].reshape(4, 9, 20)
    factors = np.repeat([queries, keys], [6, 3], 0) + np.float64(unit_offset)
    np.testing.assert_allclose(y[:, : 9 * 20].reshape(heads.shape), rms(heads, factors), rtol=2e-6)
    np.testing.assert_array_equal(y[:, 9 * 20 :], qkv[:, 9 * 20 :])


POINTS = np.concatenate(
    [
        np.linspace(-16, 16, 1001),
        [sign * x for sign in (-1, 1) for x in (1e-30, 40, 80, 88, 89, 200, 65504, 1e13, 1e30)],
    ]
).astype("float32")
"""Where an activation is computed: far beyond what exp takes, too."""


def activated(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The definition of an activation, and how far off `activation.py` says that it may be.

    The error of exp is that which WGSL allows.
    """
    x = x.astype("float64")

    def exp_error(exponent: np.ndarray) -> np.ndarray:
        return (3 + 2 * np.minimum(np.abs(exponent), 90)) * 2 * UNIT

    cut = 1e-30 * np.abs(x)
    match name:
        case "silu":
            y = x / (1 + np.exp(np.minimum(-x, 700)))
            return y, (4 * UNIT + exp_error(x)) * np.abs(y) + cut
        case "gelu_tanh":
            u = math.sqrt(2 / math.pi) * (
                np.clip(x, -1e3, 1e3) + 0.044715 * np.clip(x, -1e3, 1e3) ** 3
            )
            y = x / (1 + np.exp(np.minimum(-2 * u, 700)))
            return y, (4 * UNIT + exp_error(2 * u) + 8 * np.abs(u) * UNIT) * np.abs(y) + cut
        case "gelu":
            tail = np.abs(x) * np.vectorize(math.erfc)(np.abs(x) / math.sqrt(2)) / 2
            y = np.maximum(x, 0) - tail
            relative = 5e-7 + exp_error(x * x / 2) + x * x * UNIT
            return y, UNIT * np.abs(y) + relative * tail + cut
        case "relu":
            return np.maximum(x, 0), np.zeros_like(x)
        case "relu2":
            y = np.maximum(x, 0) ** 2
            return y, UNIT * y + np.finfo("float32").tiny
    raise AssertionError(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation(run: Run, name: Any) -> None:
    """As exact as `activation.py` says, and finite where the function is."""
    x = POINTS[np.abs(POINTS) < 1e19] if name == "relu2" else POINTS
    y, (want, error) = np.full((1, x.size), np.nan, "float32"), activated(name, x)
    run(activation(name, x.size, "float32", GPU), x[None], y)
    assert (np.abs(y[0] - want) <= error).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gated_activation(run: Run, rng: np.random.Generator, name: Any) -> None:
    x = (8 * rng.standard_normal((5, 2 * 67))).astype("float16")
    y = np.full((5, 67), np.nan, "float16")
    run(gated(name, 67, "float16", GPU), x, y)
    want = activated(name, x[:, :67])[0] * x[:, 67:]
    np.testing.assert_allclose(y, want, rtol=2**-11 + 1e-5, atol=6e-8)


make = GPUCodegen(GPU, {}).attention


def rope(elements: int, base: float = 10000.0, **more: Any) -> Rope:
    """A rotation of the first elements of a head."""
    exponents = np.arange(0, elements, 2) / elements
    return Rope(tuple(float(f) for f in np.float32(base**-exponents)), **more)


ROWS = [(1, 0), (0, 17), (1, 1), (2, 63), (2, 64), (1, 40)]
"""Sequences and positions, in no order."""

APPENDED = {
    "halves": (24, {"rope": rope(24)}),
    "wide heads": (80, {"rope": rope(80), "value_size": 16}),
    "part of a head": (24, {"rope": rope(10, factor=1.3), "value_size": 40}),
    "interleaved": (16, {"rope": rope(16, factor=0.7, interleaved=True)}),
    "part of a head, interleaved": (24, {"rope": rope(8, interleaved=True)}),
    "no rotation": (16, {"value_size": 24}),
}


@pytest.mark.parametrize("case", APPENDED)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_append(run: Run, rng: np.random.Generator, case: str, dtype: str) -> None:
    size, more = APPENDED[case]
    spec = paged.describe((3, 1), size, **more)
    paged.check_append(run, make, rng, spec, ROWS, dtype)
    if spec.rope is not None:
        paged.check_append(run, make, rng, replace(spec, keys_of=0), ROWS, dtype)


@pytest.mark.parametrize("interleaved", [False, True])
def test_far_positions_are_rotated_as_exactly(
    run: Run, rng: np.random.Generator, interleaved: bool
) -> None:
    """There a GPU's own sine is wrong."""
    rotation = rope(16, 500000.0, interleaved=interleaved)
    spec = paged.describe((2, 1), 16, rope=rotation, keys_of=0)
    rows = [(0, p) for p in (5000, 65535, 99999, 100000)]
    paged.check_append(run, make, rng, spec, rows)


def test_only_keys_of_another_layer_are_rotated_apart() -> None:
    own, dtypes = paged.describe((2, 1), 16, rope=rope(16)), ("float32", "float32")
    sharing = replace(own, keys_of=0)
    assert make(own, *dtypes).rotate is None
    assert make(sharing, *dtypes).append is None
    assert make(replace(sharing, rope=None), *dtypes).rotate is None


def test_layers_share_what_is_the_same_for_them() -> None:
    def kernels(**more: Any) -> AttentionKernels:
        return make(paged.describe((2, 1), 16, **more), "float16", "float16")

    plain, mine, theirs = kernels(), kernels(rope=rope(16)), kernels(rope=rope(16), keys_of=0)
    assert kernels(rope=rope(16), keys_of=3) == theirs
    assert kernels(rope=rope(16), window=32).append is mine.append is not plain.append
    assert (mine.prefill, mine.decode) == (plain.prefill, plain.decode)
    assert mine.prefill is not theirs.prefill  # Rows of mine hold keys and values, too.
    assert mine.decode is not theirs.decode


SEEN = {
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


@pytest.mark.parametrize("case", SEEN)
def test_decode(run: Run, rng: np.random.Generator, case: str) -> None:
    heads, size, more = SEEN[case]
    paged.check_decode(run, make, rng, paged.describe(heads, size, **more), LENGTHS)


@pytest.mark.parametrize("case", SEEN)
def test_prefill(run: Run, rng: np.random.Generator, case: str) -> None:
    heads, size, more = SEEN[case]
    paged.check_prefill(run, make, rng, paged.describe(heads, size, **more), PARTS)


def test_decode_of_several_rows_of_a_sequence(run: Run, rng: np.random.Generator) -> None:
    for more in ({}, {"window": 9}):
        spec = paged.describe((4, 2), 16, **more)
        rows = [(1, 20), (0, 0), (1, 5), (1, 139), (0, 16)]
        paged.check_decode(run, make, rng, spec, [17, 150], rows=rows)


def test_attention_in_float16(run: Run, rng: np.random.Generator) -> None:
    spec = paged.describe((4, 2), 32, window=21, sink_logits=True)
    paged.check_decode(run, make, rng, spec, [17, 33], "float16")
    paged.check_prefill(run, make, rng, spec, [(16, 33), (0, 5)], "float16")


def test_pages_of_another_dtype(run: Run, rng: np.random.Generator) -> None:
    """Keys and values in float16 beside activations in float32: what was appended is attended."""
    spec = paged.describe((2, 1), 16)
    kernels = make(spec, "float16", "float32")
    qkv = rng.standard_normal((20, spec.qkv_width)).astype("float16").astype("float32")
    positions, sequences = np.arange(20, dtype="int32"), np.zeros(20, "int32")
    table, pages = np.array([[1, 2]], "int32"), np.full((3, *spec.page_shape), np.nan, "float16")
    heads, out = qkv.reshape(20, 4, 16), np.empty((20, spec.out_width), "float32")
    run(kernels.append, qkv, positions, sequences, table, pages)
    run(kernels.decode, qkv, positions, sequences, table, pages, out)
    want = paged.attention(spec, heads[:, :2], heads[:, 2:3], heads[:, 3:], positions)
    np.testing.assert_allclose(out.reshape(want.shape), want, rtol=0, atol=1.2e-5)


def test_tables_are_views_of_one_tensor(run: Run, rng: np.random.Generator) -> None:
    spec = paged.describe((2, 1), 16, window=21)

    def run_on_views(kernel: Any, *arguments: np.ndarray) -> None:
        tables = [a for a in arguments if a.dtype == np.int32]
        one = np.concatenate([np.full(3, -1, "int32"), *(table.ravel() for table in tables)])
        held, begin, passed = tvm.runtime.tensor(one, DEVICE.open(0)), 3, []
        for a in arguments:
            is_table = a.dtype == np.int32
            passed.append(held._create_view(a.shape, "int32", 4 * begin) if is_table else a)
            begin += a.size if is_table else 0
        run(kernel, *passed)

    paged.check_append(run_on_views, make, rng, spec, ROWS)
    paged.check_decode(run_on_views, make, rng, spec, LENGTHS)
    paged.check_prefill(run_on_views, make, rng, spec, PARTS)


@pytest.mark.parametrize("window", [None, 21])
def test_a_row_is_the_same_whatever_follows_it(
    run: Run, rng: np.random.Generator, window: int | None
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
def test_scores_may_be_large(run: Run, rng: np.random.Generator, level: float) -> None:
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
