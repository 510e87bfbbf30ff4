"""Attention over pages against NumPy, and each row's bits whatever stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_llm.device.cpu.attention import cpu_attention_kernels
from mlc_llm.device.cpu.kernels.attention_decode import PIECE_KEYS
from mlc_llm.plugin import PAGE_SIZE, Rope
from mlc_llm.testing import paged_attention as paged
from mlc_llm.testing.paged_attention import Sequences, describe

pytestmark = pytest.mark.matrix

AROUND_A_PAGE = [1, 15, 16, 17, 31, 32, 33]
AROUND_PIECES = [pieces * PIECE_KEYS + more for pieces in (1, 2) for more in (-1, 0, 1)]
HEADS = [(1, 1), (4, 2), (3, 1), (8, 2), (10, 2), (6, 1), (7, 1), (8, 1), (9, 1), (4, 4)]
KINDS = {
    "all": {},
    "window": {"window": 21},
    "window and sink": {"window": 21, "sink": 4},
    "sink logits": {"sink_logits": True},
    "soft cap": {"soft_cap": 1.5},
    "small values": {"value_size": 8},
    "large values": {"value_size": 48},
    "scale": {"scale": 1.0},
    "everything": {
        "window": 40,
        "sink": 3,
        "sink_logits": True,
        "soft_cap": 2.0,
        "value_size": 24,
        "scale": 0.7,
    },
}


def maker(machine):
    def make(spec, dtype, x_dtype):
        return cpu_attention_kernels(spec, dtype, x_dtype, machine.isa)

    return make


def check_decode(machine, *arguments, **options):
    paged.check_decode(machine, maker(machine), *arguments, **options)


def check_prefill(machine, *arguments, **options):
    paged.check_prefill(machine, maker(machine), *arguments, **options)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_decode_around_a_page_and_around_pieces(machine, rng, dtype):
    spec = describe((4, 2), 32)
    check_decode(machine, rng, spec, [*AROUND_A_PAGE, *AROUND_PIECES], dtype)


def test_decode_joins_the_pieces_of_each_row(machine, rng):
    """Rows of one piece and of several, in one call, and more than are taken at a time."""
    spec = describe((8, 2), 16)
    check_decode(machine, rng, spec, [5 * PIECE_KEYS + 3, 1, PIECE_KEYS, 2 * PIECE_KEYS + 1, 7])
    rows = [(i % 3, p) for i, p in enumerate(range(0, 600, 4))]
    check_decode(machine, rng, spec, [600, 600, 600], rows=rows)


def test_decode_several_rows_of_one_sequence(best, rng):
    rows = [(0, 299), (1, 40), (0, 0), (0, 256), (0, 255), (1, 41)]
    check_decode(best, rng, describe((4, 2), 32), [300, 42], rows=rows)


@pytest.mark.matrix(heads=[(4, 4), (3, 1), (10, 2), (9, 1)])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_groups_of_heads(best, rng, heads):
    check_decode(best, rng, describe(heads, 16), [70, PIECE_KEYS + 5])
    check_prefill(best, rng, describe(heads, 16), [(0, 70), (33, 5)])


@pytest.mark.matrix(d=[8, 40, 128])
@pytest.mark.parametrize("d", [8, 16, 40, 64, 80, 96, 128])
def test_head_sizes(best, rng, d):
    check_decode(best, rng, describe((6, 2), d), [70])
    check_prefill(best, rng, describe((6, 2), d), [(0, 33), (3, 1)])


@pytest.mark.matrix(
    kind=["window and sink", "sink logits", "soft cap", "large values", "everything"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_attention(machine, rng, kind):
    spec = describe((4, 2), 16, **KINDS[kind])
    check_decode(machine, rng, spec, [*AROUND_A_PAGE, 57, 600])
    check_prefill(machine, rng, spec, [(0, 5), (40, 17), (16, 1), (100, 70)])


@pytest.mark.parametrize("window", [1, 17, 64, 65, PIECE_KEYS, PIECE_KEYS + 100])
@pytest.mark.parametrize("sink", [0, 4, PIECE_KEYS, PIECE_KEYS + 1])
def test_decode_windows(best, rng, window, sink):
    spec = describe((4, 2), 16, window=window, sink=sink)
    check_decode(best, rng, spec, [*AROUND_PIECES, 4 * PIECE_KEYS + 9, 7])


@pytest.mark.parametrize("window", [1, 50, 63, 64, 200])
@pytest.mark.parametrize("sink", [0, 4, 70])
def test_prefill_windows(best, rng, window, sink):
    spec = describe((4, 2), 16, window=window, sink=sink)
    check_prefill(best, rng, spec, [(300, 150), (0, 150), (129, 9)])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_prefill_around_a_page(machine, rng, dtype):
    spec = describe((4, 2), 32)
    check_prefill(machine, rng, spec, [(n, m) for n in AROUND_A_PAGE for m in (1, 9)], dtype)
    check_prefill(machine, rng, spec, [(0, n) for n in AROUND_A_PAGE], dtype)


def test_large_scores_do_not_overflow(machine, rng):
    spec = describe((1, 1), 8, scale=1.0)
    held = Sequences.of(rng, spec, [3], "float32")
    for position in range(3):
        key, value = held.slot(0, position)
        key[...], value[...] = 1e15, 1.0
    q = np.full((3, 24), 1e15, "float32")
    positions, sequences = np.arange(3, dtype="int32"), np.zeros(3, "int32")
    kernels = cpu_attention_kernels(spec, "float32", "float32", machine.isa)
    for sign in (1, -1):
        out = np.full((3, 8), np.nan, "float32")
        tables = (positions, sequences, held.page_table, held.pages)
        machine(kernels.decode, sign * q, *tables, out)
        np.testing.assert_allclose(out, 1, rtol=1e-6)
        starts = np.array([0, 3], "int32")
        tables = (positions, sequences, starts, held.page_table, held.pages)
        machine(kernels.prefill, sign * q, *tables, out)
        np.testing.assert_allclose(out, 1, rtol=1e-6)


def attended(machine, spec, held, q, rows, parts=None):
    """What some rows (sequence, position) of q attend to, by decode, or by a prefill of parts."""
    sequences, positions = (np.array(x, "int32") for x in zip(*rows, strict=True))
    kernels = cpu_attention_kernels(spec, held.pages.dtype.name, "float32", machine.isa)
    out = np.full((len(rows), spec.out_width), np.nan, "float32")
    given = np.full((len(rows), spec.qkv_width), np.nan, "float32")
    given[:, : spec.query_heads * spec.key_size] = [q[row] for row in rows]
    if parts is None:
        machine(kernels.decode, given, positions, sequences, held.page_table, held.pages, out)
    else:
        starts = np.cumsum([0, *parts]).astype("int32")
        tables = (positions, sequences, starts, held.page_table)
        machine(kernels.prefill, given, *tables, held.pages, out)
    return dict(zip(rows, out, strict=True))


@pytest.mark.parametrize("kind", ["all", "window", "window and sink", "soft cap"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bits_depend_on_the_row_alone(machine, rng, kind, dtype):
    """However a prompt is cut, whatever else passes, and in whatever order."""
    spec = describe((6, 2), 16, **KINDS[kind])
    lengths = [640, 333]
    held = Sequences.of(rng, spec, lengths, dtype)
    rows = [(i, p) for i, n in enumerate(lengths) for p in range(n)]
    width = spec.query_heads * spec.key_size
    q = {row: rng.standard_normal(width).astype("float32") for row in rows}
    whole = attended(machine, spec, held, q, rows, parts=lengths)
    for cut in (16, 37, 64, 300, 332):
        for chosen in (
            [(0, p) for p in range(cut)],
            [(0, p) for p in range(cut, 640)],
            [(1, p) for p in range(cut, 333)],
        ):
            found = attended(machine, spec, held, q, chosen, parts=[len(chosen)])
            assert all(np.array_equal(found[row], whole[row]) for row in chosen), cut
    some = [rows[i] for i in rng.permutation(len(rows))[:200]]
    together = attended(machine, spec, held, q, some)
    for row in some[:20]:
        assert np.array_equal(attended(machine, spec, held, q, [row])[row], together[row])


any_batch = given(
    parts=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 40)), min_size=1, max_size=4),
    window=st.none() | st.integers(1, 300),
    sink=st.integers(0, 20),
    seed=st.integers(0, 1 << 30),
)


@any_batch
@settings(max_examples=8)
def test_any_batch(best, parts, window, sink, seed):
    check_batch(best, parts, window, sink, seed)


@pytest.mark.slow
@any_batch
@settings(max_examples=20)
def test_many_batches(best, parts, window, sink, seed):
    check_batch(best, parts, window, sink, seed)


def check_batch(best, parts, window, sink, seed):
    rng = np.random.default_rng(seed)
    spec = describe((3, 1), 8, window=window, sink=sink if window else 0)
    check_decode(best, rng, spec, [before + new for before, new in parts])
    check_prefill(best, rng, spec, parts)


def test_too_many_heads_for_a_key_head_are_refused(best):
    with pytest.raises(ValueError, match="at most 64 query heads"):
        cpu_attention_kernels(describe((65, 1), 8), "float32", "float32", best.isa)


def rope(pairs, **options):
    frequencies = (10000.0 ** -(np.arange(pairs) / pairs)).astype("float32")
    return Rope(tuple(map(float, frequencies)), **options)


ROWS = [(0, 0), (1, 77), (0, 1), (2, PAGE_SIZE), (1, 4095)]
ROPES = {
    "none": (16, None),
    "head 8": (8, rope(4)),
    "head 16": (16, rope(8)),
    "head 64": (64, rope(32)),
    "head 80": (80, rope(40)),
    "head 128": (128, rope(64)),
    "part": (32, rope(6)),
    "interleaved": (24, rope(12, interleaved=True)),
    "part, interleaved, with a factor": (32, rope(5, interleaved=True, factor=1.25)),
    "factor": (32, rope(16, factor=0.75)),
}


@pytest.mark.parametrize("kind", ROPES)
def test_append(best, rng, kind):
    size, turns = ROPES[kind]
    spec = describe((6, 2), size, rope=turns)
    paged.check_append(best, maker(best), rng, spec, ROWS)
    spec = describe((6, 2), size, rope=turns, value_size=24)
    paged.check_append(best, maker(best), rng, spec, [(0, p) for p in range(40)])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("keys_of", [None, 0])
def test_append_and_rotate_everywhere(machine, rng, dtype, keys_of):
    spec = describe((6, 2), 24, rope=rope(12), keys_of=keys_of)
    paged.check_append(machine, maker(machine), rng, spec, ROWS, dtype)


def test_keys_in_float16_of_activations_in_float32(best, rng):
    spec = describe((2, 1), 16)
    held = Sequences.of(rng, spec, [1], "float16")
    qkv, zero = rng.standard_normal((1, 64)).astype("float32"), np.zeros(1, "int32")
    kernels = cpu_attention_kernels(spec, "float16", "float32", best.isa)
    best(kernels.append, qkv, zero, zero, held.page_table, held.pages)
    key, value = held.slot(0, 0)
    np.testing.assert_array_equal(key[0], qkv[0, 32:48].astype("float16"))
    np.testing.assert_array_equal(value[0], qkv[0, 48:].astype("float16"))


def test_what_a_layer_does_not_need_is_not_made(best):
    def kernels(**options):
        return cpu_attention_kernels(
            describe((2, 1), 16, **options), "float32", "float32", best.isa
        )

    mine, theirs, others = kernels(), kernels(keys_of=0), kernels(keys_of=3)
    assert mine.rotate is theirs.rotate is theirs.append is None
    assert theirs.decode is others.decode is not mine.decode  # whose rows hold keys, too
    assert kernels(rope=rope(8)).prefill is mine.prefill
