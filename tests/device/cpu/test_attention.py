"""The attention kernels against NumPy, over page tables like those that TVM's cache makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm.device.cpu.kernels.attention import (
    decode,
    merge_state,
    prefill_paged,
    prefill_ragged,
)

PAGE = 16
TOLERANCE = {"float32": 3e-6, "float16": 2e-3}
LENGTHS = [1, 15, 16, 17, 31, 32, 33]
ROPE = (0, 1.0, 10000.0)  # ignored by the kernels


def attention(q, k, v, seen, sm_scale):
    """softmax(q k) v and its base-2 log-sum-exp; q (s, hq, d), k and v (t, hkv, d), seen (s, t)."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (x.astype("float64") for x in (q, k, v))
    k, v = (np.repeat(x, group, axis=1) for x in (k, v))
    score = np.einsum("shd,thd->sht", q, k) * sm_scale * np.log2(np.e)
    score = np.where(seen[:, None, :], score, -np.inf)
    top = np.maximum(score.max(-1, keepdims=True, initial=-np.inf), -5e4)
    weight = np.exp2(score - top)
    total = weight.sum(-1)
    safe = np.where(total > 0, total, 1)
    return np.einsum("sht,thd->shd", weight, v) / safe[..., None], top[..., 0] + np.log2(safe)


@dataclass
class Cache:
    """Sequences of keys and values spread over shuffled pages, and the tables that find them."""

    pages: np.ndarray
    indptr: np.ndarray
    values: np.ndarray
    length_info: np.ndarray
    k: list[np.ndarray]
    v: list[np.ndarray]

    @staticmethod
    def of(rng, lengths, heads, d, dtype):
        counts = [-(-n // PAGE) for n in lengths]
        order = rng.permutation(sum(counts) + 2).astype("int32")[: sum(counts)]
        pages = rng.standard_normal((sum(counts) + 2, 2, heads, PAGE, d)).astype(dtype)
        k, v, begin = [], [], 0
        for n, count in zip(lengths, counts, strict=True):
            own = pages[order[begin : begin + count]].transpose(0, 3, 1, 2, 4)
            own = own.reshape(count * PAGE, 2, heads, d)
            k.append(own[:n, 0])
            v.append(own[:n, 1])
            begin += count
        last = np.array([(n - 1) % PAGE + 1 if n else 0 for n in lengths], "int32")
        indptr = np.cumsum([0, *counts]).astype("int32")
        return Cache(pages, indptr, order, last, k, v)

    @property
    def table(self):
        return self.indptr, self.values, self.length_info


def check_decode(machine, rng, lengths, heads, d, dtype="float32", window=None, sink=0):
    """Decode at the position after the last key; with a window, keys count from position 0."""
    hq, hkv = heads
    cache = Cache.of(rng, lengths, hkv, d, dtype)
    b = len(lengths)
    q = rng.standard_normal((b, hq, d)).astype(dtype)
    out, lse = np.full((b, hq, d), np.nan, dtype), np.full((b, hq), np.nan, "float32")
    position = np.array([len(k) for k in cache.k], "int32")
    kernel = decode(hkv, hq, d, dtype, machine.isa, PAGE, window, sink)
    offset = np.zeros(b, "int32")
    machine(kernel, q, cache.pages, *cache.table, offset, position, out, lse, *ROPE, d**-0.5)
    for i in range(b):
        j = np.arange(len(cache.k[i]))
        seen = np.ones(len(j), bool) if window is None else (j > len(j) - window) | (j < sink)
        want, want_lse = attention(q[i : i + 1], cache.k[i], cache.v[i], seen[None], d**-0.5)
        np.testing.assert_allclose(out[i], want[0], rtol=0, atol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(lse[i], want_lse[0], rtol=0, atol=2e-5)


def check_paged(
    machine, rng, lengths, queries, heads, d, dtype="float32", causal=0, window=None, sink=0
):
    """Queries that follow the cached keys (causal = 0), or are the last of them (causal = 1)."""
    hq, hkv = heads
    cache = Cache.of(rng, lengths, hkv, d, dtype)
    total = sum(queries)
    q = rng.standard_normal((total, hq, d)).astype(dtype)
    out, lse = np.full((total, hq, d), np.nan, dtype), np.full((total, hq), np.nan, "float32")
    q_indptr = np.cumsum([0, *queries]).astype("int32")
    offset = rng.integers(0, 5, len(lengths)).astype("int32") if not sink else 0
    offset = np.broadcast_to(np.int32(offset), len(lengths)).copy()
    position = [
        offset[i] + len(cache.k[i]) + np.arange(n, dtype="int32") for i, n in enumerate(queries)
    ]
    kernel = prefill_paged(hkv, hq, d, dtype, machine.isa, PAGE, window, sink)
    tail = (offset, np.concatenate(position), out, lse, causal, *ROPE, d**-0.5)
    machine(kernel, q, q_indptr, cache.pages, *cache.table, *tail)
    for i, n in enumerate(queries):
        rows = slice(q_indptr[i], q_indptr[i + 1])
        keys = np.arange(len(cache.k[i]))[None]
        seen = np.ones((n, keys.shape[1]), bool)
        if causal and window is None:
            seen = keys <= keys.shape[1] - n + np.arange(n)[:, None]
        if window is not None:
            seen = (keys + offset[i] > position[i][:, None] - window) | (keys + offset[i] < sink)
        want, want_lse = attention(q[rows], cache.k[i], cache.v[i], seen, d**-0.5)
        np.testing.assert_allclose(out[rows], want, rtol=0, atol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(lse[rows], want_lse, rtol=0, atol=2e-5)


def check_ragged(
    machine, rng, queries, keys, heads, d, dtype="float32", causal=1, window=None, sink=0, past=0
):
    """Queries are the last of the keys; `past` is the position of the first key."""
    hq, hkv = heads
    q = rng.standard_normal((sum(queries), hq, d)).astype(dtype)
    k, v = (rng.standard_normal((sum(keys), hkv, d)).astype(dtype) for _ in range(2))
    out = np.full_like(q, np.nan)
    lse = np.full(q.shape[:2], np.nan, "float32")
    q_indptr = np.cumsum([0, *queries]).astype("int32")
    kv_indptr = np.cumsum([0, *keys]).astype("int32")
    position = [
        past + m - n + np.arange(n, dtype="int32") for n, m in zip(queries, keys, strict=True)
    ]
    offset = np.full(len(queries), past, "int32")
    kernel = prefill_ragged(hkv, hq, d, dtype, machine.isa, window, sink)
    tail = (np.concatenate(position), offset, out, lse, causal, *ROPE, d**-0.5)
    machine(kernel, q, q_indptr, k, v, kv_indptr, *tail)
    for i in range(len(queries)):
        rows, cols = (slice(p[i], p[i + 1]) for p in (q_indptr, kv_indptr))
        key = past + np.arange(keys[i])[None]
        seen = key <= position[i][:, None] if causal else np.ones((queries[i], keys[i]), bool)
        if window is not None:
            seen = seen & ((key > position[i][:, None] - window) | (key < sink))
        want, want_lse = attention(q[rows], k[cols], v[cols], seen, d**-0.5)
        np.testing.assert_allclose(out[rows], want, rtol=0, atol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(lse[rows], want_lse, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decode_around_a_page(machine, rng, dtype):
    for length in LENGTHS:
        check_decode(machine, rng, [length], (4, 2), 32, dtype)


def test_decode_batch_and_long_context(machine, rng):
    check_decode(machine, rng, [33, 0, 1, 200, 64], (10, 2), 80)


HEADS = [(1, 1), (3, 1), (10, 2), (7, 1), (8, 1), (4, 4)]


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_decode_groups(best, rng, heads):
    check_decode(best, rng, [70], heads, 16)


@pytest.mark.parametrize("d", [8, 16, 64, 80, 96, 128])
def test_decode_head_dims(best, rng, d):
    check_decode(best, rng, [70], (6, 2), d)


@pytest.mark.parametrize(("window", "sink"), [(21, 0), (21, 4), (16, 16)])
def test_decode_window_around_a_page(machine, rng, window, sink):
    check_decode(machine, rng, [*LENGTHS, 0, 57], (4, 2), 16, window=window, sink=sink)


@pytest.mark.parametrize("window", [1, 64, 65])
@pytest.mark.parametrize("sink", [0, 3])
def test_decode_masks_by_position(best, rng, window, sink):
    check_decode(best, rng, [200, 7, 64], (4, 2), 16, window=window, sink=sink)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_paged_prefill_around_a_page(machine, rng, dtype):
    for length in LENGTHS:
        check_paged(machine, rng, [length], [9], (4, 2), 32, dtype)


@pytest.mark.parametrize("causal", [0, 1])
def test_paged_prefill_batch(machine, rng, causal):
    check_paged(machine, rng, [40, 0, 17, 100], [3, 2, 17, 70], (4, 2), 32, causal=causal)


@pytest.mark.parametrize(("window", "sink"), [(21, 0), (21, 4), (16, 16)])
def test_paged_prefill_window_around_a_page(machine, rng, window, sink):
    lengths, queries = [*LENGTHS, 0, 57], [5, 1, 20, 7, 16, 3, 1, 2, 30]
    check_paged(machine, rng, lengths, queries, (4, 2), 16, window=window, sink=sink)


@pytest.mark.parametrize("window", [1, 50, 64])
@pytest.mark.parametrize("sink", [0, 4])
@pytest.mark.parametrize("causal", [0, 1])
def test_paged_prefill_masks_by_position(best, rng, window, sink, causal):
    options = {"causal": causal, "window": window, "sink": sink}
    check_paged(best, rng, [90, 7], [70, 3], (4, 2), 16, **options)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_ragged_prefill_around_a_page(machine, rng, dtype):
    for length in LENGTHS:
        check_ragged(machine, rng, [length], [length], (4, 2), 32, dtype)


@pytest.mark.parametrize("causal", [0, 1])
def test_ragged_prefill_batch(machine, rng, causal):
    check_ragged(machine, rng, [3, 1, 130, 64], [5, 1, 130, 100], (4, 2), 32, causal=causal)


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_ragged_prefill_groups(best, rng, heads):
    check_ragged(best, rng, [70], [70], heads, 16)


@pytest.mark.parametrize("d", [8, 16, 64, 80, 96, 128])
def test_ragged_prefill_head_dims(best, rng, d):
    check_ragged(best, rng, [33], [33], (6, 2), d)


@pytest.mark.parametrize("window", [1, 63, 64, 200])
@pytest.mark.parametrize(("sink", "past"), [(0, 0), (0, 50), (4, 0), (4, 2), (4, 50)])
def test_ragged_prefill_masks_by_position(best, rng, window, sink, past):
    check_ragged(best, rng, [150, 9], [150, 9], (4, 2), 16, window=window, sink=sink, past=past)


def test_queries_without_keys_weigh_nothing(best, rng):
    check_paged(best, rng, [30, 0], [40, 1], (2, 1), 16, window=8)


def test_large_scores_do_not_overflow(machine, rng):
    q, k, v = (np.full((3, 1, 8), x, "float32") for x in (60.0, 60.0, 1.0))
    out, lse = np.full_like(q, np.nan), np.full((3, 1), np.nan, "float32")
    indptr, position, offset = (np.array(x, "int32") for x in ([0, 3], [0, 1, 2], [0]))
    kernel = prefill_ragged(1, 1, 8, "float32", machine.isa)
    machine(kernel, q, indptr, k, v, indptr, position, offset, out, lse, 1, *ROPE, 1.0)
    np.testing.assert_allclose(out, 1, rtol=1e-6)


def test_cache_and_chunk_merge_into_one_attention(machine, rng):
    """The parts that the cache computes apart give the attention over all keys."""
    hq, hkv, d, past, new = 4, 2, 32, 37, 21
    cache = Cache.of(rng, [past], hkv, d, "float32")
    q = rng.standard_normal((new, hq, d)).astype("float32")
    k, v = (rng.standard_normal((new, hkv, d)).astype("float32") for _ in range(2))
    indptr, offset = np.array([0, new], "int32"), np.array([past], "int32")
    position = past + np.arange(new, dtype="int32")
    out, other = (np.full((new, hq, d), np.nan, "float32") for _ in range(2))
    lse, other_lse = (np.full((new, hq), np.nan, "float32") for _ in range(2))
    tail = (*ROPE, d**-0.5)
    ragged = prefill_ragged(hkv, hq, d, "float32", machine.isa)
    machine(ragged, q, indptr, k, v, indptr, position, offset, out, lse, 1, *tail)
    paged = prefill_paged(hkv, hq, d, "float32", machine.isa)
    table = (cache.pages, *cache.table, np.zeros(1, "int32"))
    machine(paged, q, indptr, *table, position, other, other_lse, 0, *tail)
    machine(merge_state(hq, d, "float32"), out, lse, other, other_lse)

    seen = np.tril(np.ones((new, past + new), bool), past)
    keys, values = np.concatenate([cache.k[0], k]), np.concatenate([cache.v[0], v])
    want, want_lse = attention(q, keys, values, seen, d**-0.5)
    np.testing.assert_allclose(out, want, rtol=0, atol=1e-5)
    np.testing.assert_allclose(lse, want_lse, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_merge_with_nothing_changes_nothing(machine, rng, dtype):
    out = rng.standard_normal((3, 2, 24)).astype(dtype)
    lse = rng.standard_normal((3, 2)).astype("float32")
    before = out.copy(), lse.copy()
    nothing = np.zeros_like(out), np.full_like(lse, -5e4)
    machine(merge_state(2, 24, dtype), out, lse, *nothing)
    np.testing.assert_array_equal(out, before[0])
    np.testing.assert_allclose(lse, before[1], rtol=1e-6)


@given(
    lengths=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), min_size=1, max_size=4),
    seed=st.integers(0, 1 << 30),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_batch(best, lengths, seed):
    rng = np.random.default_rng(seed)
    cached, new = zip(*lengths, strict=True)
    check_decode(best, rng, cached, (3, 1), 8)
    check_paged(best, rng, cached, new, (3, 1), 8)
    check_ragged(best, rng, new, new, (3, 1), 8)
