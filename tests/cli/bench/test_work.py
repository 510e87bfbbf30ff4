"""The bytes and operations of kernels, against values computed by hand and by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.cli.bench.work import Arithmetic, WorkModel, base_name, bits, held_keys, visible
from mlc_llm.runtime.metadata import LibraryMetadata
from mlc_llm.runtime.profile import KernelCall, TensorShape

HEADS, KV_HEADS, DIM, VALUE_DIM = 4, 2, 8, 6


def work_model(window: int | None = None, sink: int = 0) -> WorkModel:
    """Three layers, of which the second has a window."""
    layer = {"query_heads": HEADS, "kv_heads": KV_HEADS, "key_size": DIM, "value_size": VALUE_DIM}
    layers = [layer, {**layer, "window": window, "sink": sink}, layer]
    fields: dict[str, Any] = {
        "model_type": "llama",
        "quantization": "q4f16_1",
        "params": [],
        "kv_cache": {"dtype": "float16", "page_size": 16, "layers": layers},
        "repack": [],
    }
    return WorkModel(LibraryMetadata.model_validate(fields), vocab_size=100)


def call(
    name: str, *tensors: tuple[tuple[int, ...], str], context: int = 0, layer: int = 0
) -> KernelCall:
    shapes = tuple(TensorShape(shape, dtype) for shape, dtype in tensors)
    return KernelCall(name, shapes, context, layer, 1e-3)


def test_a_quantised_product() -> None:
    work = work_model().of(
        call(
            "group_linear7",
            ((5, 64), "float32"),
            ((3, 2, 4, 64), "uint8"),
            ((3, 2, 16), "float16"),
            ((5, 48), "float32"),
        )
    )
    assert work.kernel == "group_linear 48 x 64"
    assert work.bytes == 5 * 64 * 4 + 48 * 64 // 2 + 48 * 2 * 2 + 5 * 48 * 4
    assert work.operations == 2 * 5 * 48 * 64
    assert work.arithmetic is Arithmetic.INTEGER


def test_a_product_of_gated_rows_with_a_residual() -> None:
    tensors = [
        ((5, 128), "float32"),
        ((3, 2, 4, 64), "uint8"),
        ((3, 2, 16), "float16"),
        ((5, 48), "float32"),
        ((5, 48), "float32"),
    ]
    work = work_model().of(call("gated_group_linear3", *tensors))
    assert work.kernel == "gated_group_linear 48 x 64"
    assert work.bytes == 5 * 128 * 4 + 48 * 64 // 2 + 48 * 2 * 2 + 2 * 5 * 48 * 4
    assert work.operations == 2 * 5 * 48 * 64


def test_a_residual_larger_than_the_weight() -> None:
    tensors = [
        ((500, 64), "float32"),
        ((3, 2, 4, 64), "uint8"),
        ((3, 2, 16), "float16"),
        ((500, 48), "float32"),
        ((500, 48), "float32"),
    ]
    work = work_model().of(call("group_linear4", *tensors))
    assert work.kernel == "group_linear 48 x 64"
    assert work.operations == 2 * 500 * 48 * 64
    assert work.arithmetic is Arithmetic.INTEGER


@pytest.mark.parametrize("name", ["float_linear", "matmul3", "gemv"])
def test_a_float_product(name: str) -> None:
    tensors = (((5, 64), "float32"), ((3, 64, 16), "float16"), ((5, 48), "float16"))
    work = work_model().of(call(name, *tensors))
    assert work.kernel == f"{base_name(name)} 48 x 64"
    assert work.bytes == 5 * 64 * 4 + 48 * 64 * 2 + 5 * 48 * 2
    assert work.operations == 2 * 5 * 48 * 64
    assert work.arithmetic is Arithmetic.FLOAT


def test_of_a_table_the_rows_that_are_looked_up() -> None:
    tensors = (
        ((5,), "int32"),
        ((7, 2, 4, 64), "uint8"),
        ((7, 2, 16), "float16"),
        ((5, 64), "float32"),
    )
    work = work_model().of(call("group_embedding", *tensors))
    table = 7 * 2 * 4 * 64 + 7 * 2 * 16 * 2
    assert work.bytes == 5 * 4 + table * 5 / 100 + 5 * 64 * 4
    assert work.operations is None


def test_one_row_is_copied() -> None:
    tensors = (((50, 64), "float32"), ((1, 64), "float32"))
    assert work_model().of(call("rows_at", *tensors)).bytes == 2 * 64 * 4


def test_elementwise_kernels() -> None:
    norm = (((5, 64), "float32"), ((64,), "float16"), ((5, 64), "float32"))
    work = work_model().of(call("rms_norm1", *norm))
    assert (work.bytes, work.operations) == (2 * 5 * 64 * 4 + 64 * 2, 4 * 5 * 64)
    work = work_model().of(call("silu_mul", ((5, 64), "float32"), ((5, 32), "float32")))
    assert (work.bytes, work.operations) == (5 * 96 * 4, 5 * 5 * 32)
    work = work_model().of(call("gelu", *[((5, 64), "float32")] * 2))
    assert (work.bytes, work.operations) == (2 * 5 * 64 * 4, 4 * 5 * 64)
    work = work_model().of(call("fused_thing2", *[((5, 64), "float32")] * 3))
    assert (work.kernel, work.bytes, work.operations) == ("fused_thing", 3 * 5 * 64 * 4, None)


PAGES = ((1000, KV_HEADS, 16 * (DIM + VALUE_DIM)), "float16")
TABLE = ((1, 100), "int32")
PER_TOKEN = 2 * KV_HEADS * (DIM + VALUE_DIM)


def attention(queries: int, context: int, model: WorkModel) -> tuple[float, float | None]:
    rows = ((queries,), "int32")
    q, out = ((queries, HEADS * DIM), "float32"), ((queries, HEADS * VALUE_DIM), "float32")
    tensors = (q, rows, rows, TABLE, PAGES, out)
    work = model.of(call("attention_decode2", *tensors, context=context, layer=1))
    assert work.kernel == "attention_decode"
    return work.bytes - 4 * queries * HEADS * (DIM + VALUE_DIM), work.operations


def test_attention_of_one_query() -> None:
    moved, operations = attention(1, 10, work_model())
    assert moved == PER_TOKEN * 11
    assert operations == 2 * (DIM + VALUE_DIM) * HEADS * 11


def test_attention_of_many_queries() -> None:
    moved, operations = attention(3, 10, work_model())
    assert moved == PER_TOKEN * 13
    assert operations == 2 * (DIM + VALUE_DIM) * HEADS * (11 + 12 + 13)


def test_attention_with_a_window_and_a_sink() -> None:
    moved, operations = attention(1, 10, work_model(window=4, sink=2))
    # The window's own key and 3 before it, and 2 at the beginning.
    assert operations == 2 * (DIM + VALUE_DIM) * HEADS * 6
    assert moved == PER_TOKEN * 6


def test_appending_to_the_cache() -> None:
    width = HEADS * DIM + KV_HEADS * (DIM + VALUE_DIM)
    rows = ((3,), "int32")
    tensors = (((3, width), "float32"), rows, rows, TABLE, PAGES)
    work = work_model().of(call("attention_append1", *tensors))
    assert (work.kernel, work.operations) == ("attention_append", None)
    assert work.bytes == 4 * 3 * (width + HEADS * DIM) + 3 * PER_TOKEN


@given(
    context=st.integers(0, 60),
    queries=st.integers(1, 20),
    window=st.none() | st.integers(1, 30),
    sink=st.integers(0, 8),
)
def test_the_keys_that_are_seen(context: int, queries: int, window: int | None, sink: int) -> None:
    query = np.arange(context, context + queries)[:, None]
    key = np.arange(context + queries)[None, :]
    mask = key <= query
    if window is not None:
        mask &= (key > query - window) | (key < sink)
    counts = mask.sum(axis=1)
    assert [visible(context + i, window, sink) for i in range(queries)] == list(counts)
    assert held_keys(context, window, sink) == mask[:, :context].any(axis=0).sum()


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float16", 16), ("uint8", 8), ("bool", 8), ("float32x4", 128), ("bfloat16", 16)],
)
def test_the_size_of_a_type(dtype: str, size: int) -> None:
    assert bits(dtype) == size


def test_a_type_without_a_size() -> None:
    with pytest.raises(ValueError, match="handle"):
        bits("handle")
