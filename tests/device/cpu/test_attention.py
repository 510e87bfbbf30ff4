"""The attention kernels against NumPy, over page tables like those that TVM's cache makes."""

from __future__ import annotations

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
from mlc_llm.device.cpu.kernels.attention_decode import PIECE
from mlc_llm.testing import paged_attention
from mlc_llm.testing.paged_attention import PAGE, ROPE, Cache, attention

LENGTHS = [1, 15, 16, 17, 31, 32, 33]
AROUND_PIECES = [PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1]


def check_decode(machine, *arguments, **options):
    def make(hkv, hq, d, dtype, window, sink):
        return decode(hkv, hq, d, dtype, machine.isa, PAGE, window, sink)

    paged_attention.check_decode(machine, make, *arguments, **options)


def check_paged(machine, *arguments, **options):
    def make(hkv, hq, d, dtype, window, sink):
        return prefill_paged(hkv, hq, d, dtype, machine.isa, PAGE, window, sink)

    paged_attention.check_paged(machine, make, *arguments, **options)


def check_ragged(machine, *arguments, **options):
    def make(hkv, hq, d, dtype, window, sink):
        return prefill_ragged(hkv, hq, d, dtype, machine.isa, window, sink)

    paged_attention.check_ragged(machine, make, *arguments, **options)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decode_around_a_page(machine, rng, dtype):
    for length in LENGTHS:
        check_decode(machine, rng, [length], (4, 2), 32, dtype)


def test_decode_every_length_up_to_a_third_page(best, rng):
    for length in range(2 * PAGE + 9):
        check_decode(best, rng, [length], (3, 1), 16)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decode_around_pieces(machine, rng, dtype):
    for length in AROUND_PIECES:
        check_decode(machine, rng, [length], (4, 2), 32, dtype)


def test_decode_joins_the_pieces_of_each_sequence(machine, rng):
    """Sequences of one piece and of several, in one batch."""
    check_decode(machine, rng, [5 * PIECE + 3, 0, PIECE, 2 * PIECE + 1, 7], (8, 2), 16)


def test_decode_batch_and_long_context(machine, rng):
    check_decode(machine, rng, [33, 0, 1, 200, 64], (10, 2), 80)


HEADS = [(1, 1), (4, 2), (3, 1), (8, 2), (10, 2), (6, 1), (7, 1), (8, 1), (9, 1), (4, 4)]


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_decode_groups(best, rng, heads):
    check_decode(best, rng, [70, PIECE + 5], heads, 16)


@pytest.mark.parametrize("d", [8, 16, 40, 64, 80, 96, 128])
def test_decode_head_dims(best, rng, d):
    check_decode(best, rng, [70], (6, 2), d)


@pytest.mark.parametrize(("window", "sink"), [(21, 0), (21, 4), (16, 16)])
def test_decode_window_around_a_page(machine, rng, window, sink):
    check_decode(machine, rng, [*LENGTHS, 0, 57], (4, 2), 16, window=window, sink=sink)


@pytest.mark.parametrize("window", [17, PIECE, PIECE + 100])
@pytest.mark.parametrize("sink", [0, 4, PIECE, PIECE + 1])
def test_decode_window_around_pieces(best, rng, window, sink):
    lengths = [*AROUND_PIECES, 4 * PIECE + 9]
    check_decode(best, rng, lengths, (4, 2), 16, window=window, sink=sink)


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


@pytest.mark.parametrize("d", [8, 16, 40, 64, 80, 96, 128])
def test_ragged_prefill_head_dims(best, rng, d):
    check_ragged(best, rng, [33], [33], (6, 2), d)


@pytest.mark.parametrize("d", [8, 40, 80])
def test_paged_prefill_head_dims(best, rng, d):
    check_paged(best, rng, [70, 3], [33, 1], (6, 2), d)


@pytest.mark.parametrize(("window", "sink"), [(21, 4), (64, 70), (100, 0)])
def test_paged_prefill_leaves_out_chunks_between_sink_and_window(best, rng, window, sink):
    check_paged(best, rng, [300, 129], [150, 40], (4, 2), 16, window=window, sink=sink)


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
    lengths=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 40)), min_size=1, max_size=4),
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
