"""Functions that make parameters, against transformers and against plain loops."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.model.weights import (
    Array,
    OrderRows,
    grouped_qkv,
    interleaved_qkv,
    inverse,
    minus_one,
    plus_one,
    rotary_halves,
    rotary_pairs,
    rows,
    stacked,
    transposed,
)
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.quantization import PLANS
from mlc_llm.quantization.packing import quantize

ORDERS = {
    "rows": (rows(5, 9), 12),
    "interleaved_qkv": (interleaved_qkv(2, 2), 12),
    "grouped_qkv": (grouped_qkv(2, 3, 2), 20),
    "rotary_halves": (rotary_halves(3, 6), 18),
    "rotary_halves, some": (rotary_halves(3, 6, 4), 18),
    "rotary_pairs": (rotary_pairs(3, 6, 4), 18),
}
EVERY_ORDER = pytest.mark.parametrize(("order", "count"), ORDERS.values(), ids=ORDERS)
SCHEMES = {
    scheme: None
    for plan in PLANS.values()
    for scheme in (plan.linear, plan.embedding)
    if scheme.layout == "rows"
}


def numbered(count: int, columns: int = 0) -> Array:
    shape = (count, columns) if columns else (count,)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@EVERY_ORDER
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_ordering_rows_commutes_with_quantisation(
    order: OrderRows, count: int, scheme: Scheme
) -> None:
    w = np.random.default_rng(0).standard_normal((count, 70)).astype(np.float32)
    ordered = quantize(order(w), scheme)
    for tensor, expected in zip(quantize(w, scheme), ordered, strict=True):
        got = order(tensor)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@EVERY_ORDER
def test_ordering_takes_biases_and_refuses_other_numbers_of_rows(
    order: OrderRows, count: int
) -> None:
    np.testing.assert_array_equal(order(numbered(count)), order(numbered(count, 3))[:, 0] / 3)
    for other in (0, count - 4):
        with pytest.raises(ValueError, match="there are"):
            order(numbered(other, 3))


def _falcon(transformers: Any, **config: Any) -> Any:
    module = importlib.import_module("transformers.models.falcon.modeling_falcon")
    return module.FalconAttention(transformers.FalconConfig(**config), layer_idx=0)


def test_interleaved_qkv_is_split_as_transformers_splits_it(torch: Any, transformers: Any) -> None:
    heads, dim = 3, 4
    falcon = _falcon(
        transformers, hidden_size=12, num_attention_heads=heads, multi_query=False, alibi=False
    )
    w = numbered(heads * 3 * dim)
    parts = falcon._split_heads(torch.from_numpy(w).reshape(1, 1, -1))
    expected = np.concatenate([part.numpy().ravel() for part in parts])
    np.testing.assert_array_equal(interleaved_qkv(heads, dim)(w), expected)


def test_grouped_qkv_is_split_as_transformers_splits_it(torch: Any, transformers: Any) -> None:
    kv_heads, group, dim = 2, 3, 4
    falcon = _falcon(
        transformers,
        hidden_size=kv_heads * group * dim,
        num_attention_heads=kv_heads * group,
        num_kv_heads=kv_heads,
        new_decoder_architecture=True,
    )
    w = numbered(kv_heads * (group + 2) * dim)
    q, k, v = (
        part.numpy().reshape(-1, dim)
        for part in falcon._split_heads(torch.from_numpy(w).reshape(1, 1, -1))
    )
    # Transformers repeats a key and a value for each query that shares them.
    expected = np.concatenate([q, k[::group], v[::group]])
    np.testing.assert_array_equal(grouped_qkv(kv_heads, group, dim)(w).reshape(-1, dim), expected)


@pytest.mark.parametrize(("dim", "rotated"), [(8, None), (8, 8), (8, 4)])
def test_rotating_halves_gives_the_scores_of_rotating_pairs(
    torch: Any, transformers: Any, dim: int, rotated: int | None
) -> None:
    """GPT-J rotates pairs and Llama halves: with reordered rows, their scores are the same."""
    gptj = importlib.import_module("transformers.models.gptj.modeling_gptj")
    llama = importlib.import_module("transformers.models.llama.modeling_llama")
    heads, hidden, tokens = 2, 16, 5
    d = rotated or dim
    random = np.random.default_rng(0)
    x = random.standard_normal((tokens, hidden))
    weights = [random.standard_normal((heads * dim, hidden)) for _ in "qk"]
    angles = np.arange(tokens)[:, None] / 10.0 ** (np.arange(0, d, 2) / d)
    sin, cos = (torch.from_numpy(f(angles)) for f in (np.sin, np.cos))

    def heads_of(w: Array) -> Any:
        return torch.from_numpy((x @ w.T).reshape(1, tokens, heads, dim))

    def scores(q: Any, k: Any) -> Any:
        return torch.einsum("thd,shd->hts", q[0], k[0])

    pairs = [heads_of(w) for w in weights]
    for each in pairs:
        each[..., :d] = gptj.apply_rotary_pos_emb(each[..., :d].clone(), sin[None], cos[None])
    q, k = (heads_of(rotary_halves(heads, dim, rotated)(w)) for w in weights)
    wide = [torch.cat([table, table], dim=-1)[None] for table in (cos, sin)]
    q[..., :d], k[..., :d] = llama.apply_rotary_pos_emb(
        q[..., :d].clone(), k[..., :d].clone(), *wide, unsqueeze_dim=2
    )
    np.testing.assert_allclose(scores(q, k), scores(*pairs), atol=1e-9)


def test_rotary_halves_is_what_transformers_does_to_a_gguf_file(transformers: Any) -> None:
    module = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    w = numbered(3 * 8, 5)
    expected = module.LlamaTensorProcessor()._reverse_permute_weights(w, 6, 3)
    np.testing.assert_array_equal(rotary_halves(3, 8)(w), expected)


@given(st.integers(1, 4), st.integers(0, 6), st.integers(0, 5))
def test_rotary_pairs_is_the_inverse(heads: int, half: int, rest: int) -> None:
    w = numbered(heads * (2 * half + rest), 2)
    there, back = (f(heads, 2 * half + rest, 2 * half) for f in (rotary_halves, rotary_pairs))
    np.testing.assert_array_equal(back(there(w)), w)
    np.testing.assert_array_equal(there(back(w)), w)


@pytest.mark.parametrize(("dim", "rotated"), [(7, None), (8, 3), (8, 10)])
def test_rows_that_cannot_be_rotated(dim: int, rotated: int | None) -> None:
    with pytest.raises(ValueError, match="cannot be rotated in pairs"):
        rotary_halves(2, dim, rotated)


def test_transposed_is_conv1d(torch: Any, transformers: Any) -> None:
    module = importlib.import_module("transformers.pytorch_utils")
    conv = module.Conv1D(6, 4)
    x = torch.randn(3, 4)
    weight = transposed(conv.weight.detach().numpy())
    assert weight.flags.c_contiguous
    np.testing.assert_allclose(x.numpy() @ weight.T, conv(x).detach().numpy(), rtol=1e-5)


def test_plus_one_keeps_the_dtype() -> None:
    got = plus_one(np.array([-1.0, 0.5], np.float32))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [0.0, 1.5])


def test_minus_one_is_the_inverse() -> None:
    got = minus_one(plus_one(np.array([-1.0, 0.5], np.float32)))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [-1.0, 0.5])


def test_inverse_undoes_an_order() -> None:
    order, w = interleaved_qkv(3, 4), np.arange(3 * 3 * 4 * 2).reshape(-1, 2)
    undone = inverse(order, len(w))
    np.testing.assert_array_equal(undone(order(w)), w)
    np.testing.assert_array_equal(order(undone(w)), w)


def test_stacked() -> None:
    experts = [np.full((2, 3), i, np.float32) for i in range(4)]
    got = stacked(*experts)
    assert got.shape == (4, 2, 3)
    np.testing.assert_array_equal(got[:, 1, 2], range(4))


def test_rows_splits() -> None:
    w = numbered(9, 2)
    np.testing.assert_array_equal(np.concatenate([rows(0, 4)(w), rows(4, 9)(w)]), w)
    with pytest.raises(ValueError, match="no rows 4 to 10 among 9"):
        rows(4, 10)(w)


def test_does_not_import_tvm() -> None:
    code = "import sys, mlc_llm.model.weights; sys.exit(bool({'tvm', 'torch'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
