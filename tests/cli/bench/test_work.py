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

HEADS, KV_HEADS, DIM = 4, 2, 8
ATTENTION = "vm.builtin.attention_kv_cache_attention_with_fused_qkv"


def work_model(window: int = -1, sink: int = -1) -> WorkModel:
    cache = {
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": DIM,
        "dtype": "float16",
    }
    fields: dict[str, Any] = {
        "model_type": "llama",
        "quantization": "q4f16_1",
        "sliding_window_size": window,
        "attention_sink_size": sink,
        "params": [],
        "kv_cache": cache,
        "repack": [],
    }
    return WorkModel(LibraryMetadata.model_validate(fields), vocab_size=100)


def call(name: str, *tensors: tuple[tuple[int, ...], str], context: int = 0) -> KernelCall:
    shapes = tuple(TensorShape(shape, dtype) for shape, dtype in tensors)
    return KernelCall(name, shapes, context, 1e-3)


def test_a_quantised_product() -> None:
    work = work_model().of(
        call(
            "q4_linear7",
            ((5, 64), "float32"),
            ((3, 2, 4, 64), "uint8"),
            ((3, 2, 16), "float16"),
            ((5, 48), "float32"),
        )
    )
    assert work.kernel == "q4_linear 48 x 64"
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
    work = work_model().of(call("q4_linear3", *tensors))
    assert work.kernel == "q4_linear 48 x 64"
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
    work = work_model().of(call("q4_linear4", *tensors))
    assert work.kernel == "q4_linear 48 x 64"
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
    work = work_model().of(call("q4_embedding", *tensors))
    table = 7 * 2 * 4 * 64 + 7 * 2 * 16 * 2
    assert work.bytes == 5 * 4 + table * 5 / 100 + 5 * 64 * 4
    assert work.operations is None


def test_one_row_is_copied() -> None:
    tensors = (((50, 64), "float32"), ((1, 64), "float32"))
    assert work_model().of(call("last_token", *tensors)).bytes == 2 * 64 * 4


def test_elementwise_kernels() -> None:
    norm = (((5, 64), "float32"), ((64,), "float16"), ((5, 64), "float32"))
    work = work_model().of(call("rms_norm1", *norm))
    assert (work.bytes, work.operations) == (2 * 5 * 64 * 4 + 64 * 2, 4 * 5 * 64)
    work = work_model().of(call("silu_mul", ((5, 64), "float32"), ((5, 32), "float32")))
    assert (work.bytes, work.operations) == (5 * 96 * 4, 5 * 5 * 32)
    work = work_model().of(call("fused_thing2", *[((5, 64), "float32")] * 3))
    assert (work.kernel, work.bytes, work.operations) == ("fused_thing", 3 * 5 * 64 * 4, None)


def attention(queries: int, context: int, model: WorkModel) -> tuple[float, float | None]:
    heads = HEADS + 2 * KV_HEADS
    tensors = (((queries, heads, DIM), "float16"), ((queries, HEADS, DIM), "float16"))
    work = model.of(call(ATTENTION, *tensors, context=context))
    assert work.kernel == "attention"
    return work.bytes, work.operations


def test_attention_of_one_query() -> None:
    moved, operations = attention(1, 10, work_model())
    arguments = 2 * DIM * (HEADS + 2 * KV_HEADS + HEADS)
    # The 10 keys and values of the cache are read, and one of each is put into it.
    assert moved == arguments + 2 * 2 * KV_HEADS * DIM * (10 + 1)
    assert operations == 4 * DIM * HEADS * 11


def test_attention_of_many_queries() -> None:
    moved, operations = attention(3, 10, work_model())
    arguments = 3 * 2 * DIM * (HEADS + 2 * KV_HEADS + HEADS)
    assert moved == arguments + 2 * 2 * KV_HEADS * DIM * (10 + 3)
    assert operations == 4 * DIM * HEADS * (11 + 12 + 13)


def test_attention_with_a_window_and_a_sink() -> None:
    model = work_model(window=4, sink=2)
    moved, operations = attention(1, 10, model)
    # The window's own key and 3 before it, and 2 at the beginning.
    assert operations == 4 * DIM * HEADS * 6
    arguments = 2 * DIM * (HEADS + 2 * KV_HEADS + HEADS)
    assert moved == arguments + 2 * 2 * KV_HEADS * DIM * (5 + 1)


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
