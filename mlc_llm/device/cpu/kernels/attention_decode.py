"""Attention of one token: the heads that share a key head against all keys. See `attention.py`.

Keys go in pieces of 256, each a task of its own (flash-decoding), so that one sequence can feed
many threads. A piece gives, for each of its query heads,

    m = max s    out = (sum 2^(s - m) v) / (sum 2^(s - m))    lse = m + log2(sum 2^(s - m))

of its scores s = q . k: all scores, then the weights, then the values. Where a sequence has one
piece, that is the result. Where it has more, `attention_pieces.py` joins them. The pieces are the
same for any number of threads, and so is the result.

Keys and values are read once, converted as they are loaded, while those two runs ahead come into
the CPU's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from .attention_source import HIDDEN, KEY, LOG2E, LOWEST, VALUE, Mask, PagedSource, Place
from .isa import Isa
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    bind,
    ceil_div,
    exp2_nonpositive,
    f32,
    fold_max,
    fold_sum,
    fold_sums,
    i32,
    i64,
    load,
    load_f32,
    scratch,
    serial,
    splat,
    store,
    store_f32,
)

PIECE = 256  # keys of a piece
_AHEAD = 2  # runs of keys between what is read and what is prefetched


@dataclass(frozen=True)
class Piece:
    """The query heads of one key head, and what they give over a piece of its keys."""

    isa: Isa
    query: Buffer  # (heads, d), scaled
    scores: Buffer  # (heads, PIECE), then weights
    out: Buffer  # (heads, d)
    total: Buffer  # (heads,) sum of the weights
    lse: Buffer  # (heads,)

    @staticmethod
    def allocate(heads: int, d: int, isa: Isa) -> Piece:
        shapes = ((heads, d), (heads, PIECE), (heads, d), (heads,), (heads,))
        return Piece(isa, *(scratch(shape) for shape in shapes))

    @property
    def heads(self) -> int:
        return int(self.query.shape[0])

    @property
    def lanes(self) -> int:
        """Lanes of a vector of a head's elements."""
        return gcd(int(self.query.shape[1]), self.isa.lanes)

    @property
    def vectors(self) -> int:
        """Vectors of a head."""
        return int(self.query.shape[1]) // self.lanes


def attend_piece(
    q: Buffer,
    b: Expr,
    h: Expr,
    group: int,
    source: PagedSource,
    mask: Mask,
    seen_from: Expr,
    begin: Expr,
    sm_scale: Expr,
    isa: Isa,
) -> Piece:
    """Emit the attention of the query heads of key head h over the keys from `begin` on.

    q (batch, hq, d); `begin` a multiple of PIECE; `seen_from` the first key in the window (int32).
    """
    piece = Piece.allocate(group, int(q.shape[2]), isa)
    _load_query(piece, q, b, h, sm_scale)
    end = bind(T.min(begin + PIECE, source.length))
    if mask.window is not None and not mask.has_sink:
        # The runs before the window are left out; what is left of its first run is masked.
        first_run = T.truncdiv(T.Cast("int64", seen_from), i64(source.run))
        begin = bind(T.max(begin, first_run * source.run))
    count = bind(T.max(end - begin, i64(0)))
    first_run = bind(T.truncdiv(begin, i64(source.run)))
    _scores(piece, source, first_run, count)
    with serial(group) as j:
        _softmax(piece, j, mask, seen_from, begin, count)
    _values(piece, source, first_run, count)
    return piece


def write_piece(piece: Piece, out: Buffer, lse: Buffer, row: Expr, first_head: Expr) -> None:
    """out[row, first_head + j] and lse[row, first_head + j] for every head j of the piece."""
    lanes = piece.lanes
    with serial(piece.heads) as j:
        # Without a visible key the sums are 0 and stay so.
        total = bind(T.Select(piece.total[j] > f32(0), piece.total[j], f32(1)))
        share = bind(splat(bind(f32(1) / total), lanes))
        with serial(piece.vectors) as i:
            value = load(piece.out, (j, i * lanes), lanes) * share
            store_f32(out, (row, first_head + j, i * lanes), value, lanes)
        T.buffer_store(lse, piece.lse[j], [row, first_head + j])


def _load_query(piece: Piece, q: Buffer, b: Expr, h: Expr, sm_scale: Expr) -> None:
    """The scaled queries."""
    lanes = piece.lanes
    scale = bind(splat(bind(sm_scale * f32(LOG2E)), lanes))
    with serial(piece.heads) as j, serial(piece.vectors) as i:
        value = load_f32(q, (b, h * piece.heads + j, i * lanes), lanes)
        store(piece.query, (j, i * lanes), value * scale, lanes)


def _scores(piece: Piece, source: PagedSource, first_run: Expr, count: Expr) -> None:
    """scores[j, t] = query[j] . key t, whole runs of keys; meanwhile, later keys are fetched."""
    tile = piece.isa.registers // 2
    together = min(source.run, tile // min(4, _power_of_two(piece.heads)))
    runs = bind(ceil_div(count, source.run))
    with serial(runs) as r:
        place = source.find(bind(first_run + r))
        # Past the keys of the piece come its values.
        ahead = bind(r + _AHEAD)
        ahead_which = bind(T.Select(ahead < runs, i64(KEY), i64(VALUE)))
        ahead_run = bind(T.Select(ahead < runs, ahead, T.min(ahead - runs, runs - 1)))
        ahead_place = source.find(bind(first_run + ahead_run))
        with serial(source.run // together) as block:
            key = bind(block * together)
            for t in range(together):
                _fetch(piece, source, ahead_which, ahead_place, key + t)
            for first_head, heads, times in _blocks(piece.heads, min(4, tile)):
                with serial(times) as j:
                    head = bind(j * heads + first_head)
                    at = bind(r * source.run + key)
                    _score_tile(piece, source, place, key, together, head, heads, at)


def _score_tile(
    piece: Piece,
    source: PagedSource,
    place: Place,
    key: Expr,
    keys: int,
    head: Expr,
    heads: int,
    at: Expr,
) -> None:
    """scores[head + j, at + t] = query[head + j] . key t for some heads and keys."""
    lanes = piece.lanes
    dots = [[Accumulator(lanes) for _ in range(keys)] for _ in range(heads)]
    with serial(piece.vectors) as i:
        element = bind(i * lanes)
        vectors = [bind(source.load(KEY, place, key + t, element, lanes)) for t in range(keys)]
        for j, row in enumerate(dots):
            query = bind(load(piece.query, (head + j, element), lanes))
            for dot, vector in zip(row, vectors, strict=True):
                dot.add(vector * query)
    width = min(keys, lanes)
    rows = [row[t : t + width] for row in dots for t in range(0, keys, width)]
    places = [(head + j, at + t) for j in range(heads) for t in range(0, keys, width)]
    several = max(1, lanes // width)  # rows whose sums fill one vector
    for i in range(0, len(rows), several):
        part = rows[i : i + several]
        sums = bind(fold_sums([dot.get() for row in part for dot in row], lanes))
        for n, where in enumerate(places[i : i + several]):
            one = T.Shuffle([sums], list(range(n * width, (n + 1) * width)))
            store(piece.scores, where, one if len(part) > 1 else sums, width)


def _softmax(piece: Piece, j: Expr, mask: Mask, seen_from: Expr, begin: Expr, count: Expr) -> None:
    """Turn the scores of head j into weights."""
    lanes = piece.isa.lanes
    top, total = Accumulator(lanes, LOWEST), Accumulator(lanes)
    vectors = bind(ceil_div(count, lanes))
    with serial(vectors) as i:
        index = bind(T.ramp(T.Cast("int32", i * lanes), i32(1), lanes))
        seen = index < splat(T.Cast("int32", count), lanes)
        if mask.window is not None:
            key = bind(index + splat(T.Cast("int32", begin), lanes))
            seen = T.And(seen, mask.sees(key, splat(seen_from, lanes), lanes))
        score = load(piece.scores, (j, i * lanes), lanes)
        score = bind(T.Select(seen, score, splat(HIDDEN, lanes)))
        store(piece.scores, (j, i * lanes), score, lanes)
        top.set(T.max(top.get(), score))
    highest = bind(fold_max(top.get(), lanes))
    with serial(vectors) as i:
        score = load(piece.scores, (j, i * lanes), lanes)
        weight = exp2_nonpositive(score - splat(highest, lanes), lanes)
        store(piece.scores, (j, i * lanes), weight, lanes)
        total.add(weight)
    whole = bind(fold_sum(total.get(), lanes))
    T.buffer_store(piece.total, whole, [j])
    safe = T.Select(whole > f32(0), whole, f32(1))
    T.buffer_store(piece.lse, highest + T.log2(safe), [j])


def _values(piece: Piece, source: PagedSource, first_run: Expr, count: Expr) -> None:
    """out[j] = sum over t of weight[j, t] * value t, some heads and vectors at a time."""
    lanes, room = piece.lanes, piece.isa.registers // 2
    for first_head, heads, times in _blocks(piece.heads, 8 if room >= 16 else 4):
        width = max(w for w in range(1, piece.vectors + 1) if _fits(w, heads, piece.vectors, room))
        with serial(times) as block, serial(piece.vectors // width) as part:
            head = bind(block * heads + first_head)
            elements = [bind((part * width + i) * lanes) for i in range(width)]
            sums = [[Accumulator(lanes) for _ in range(width)] for _ in range(heads)]
            _add_values(piece, source, first_run, count, head, elements, sums)
            for j, row in enumerate(sums):
                for element, total in zip(elements, row, strict=True):
                    store(piece.out, (head + j, element), total.get(), lanes)


def _add_values(
    piece: Piece,
    source: PagedSource,
    first_run: Expr,
    count: Expr,
    head: Expr,
    elements: list[Expr],
    sums: list[list[Accumulator]],
) -> None:
    """sums[j][i] += weight[head + j, t] * value t[elements[i] ...]."""
    runs = bind(ceil_div(count, source.run))
    with serial(runs) as r:
        place = source.find(bind(first_run + r))
        ahead = source.find(bind(first_run + T.min(r + _AHEAD, runs - 1)))
        with serial(T.min(count - r * source.run, i64(source.run))) as key:
            for element in elements:
                source.fetch(i64(VALUE), ahead, key, element)
            values = [
                bind(source.load(VALUE, place, key, element, piece.lanes)) for element in elements
            ]
            for j, row in enumerate(sums):
                weight = bind(splat(piece.scores[head + j, r * source.run + key], piece.lanes))
                for total, value in zip(row, values, strict=True):
                    total.add(value * weight)


def _fetch(piece: Piece, source: PagedSource, which: Expr, place: Place, key: Expr) -> None:
    """Ask for all lines of a key or value."""
    line = 64 // (2 if source.dtype == "float16" else 4)
    for i in range(-(-int(piece.query.shape[1]) // line)):
        source.fetch(which, place, key, i64(i * line))


def _blocks(heads: int, most: int) -> list[tuple[int, int, int]]:
    """The heads in blocks of a power of two, `most` or less: (first, at a time, how many times)."""
    blocks, first = [], 0
    while first < heads:
        few = min(most, _power_of_two(heads - first))
        blocks.append((first, few, (heads - first) // few))
        first += few * blocks[-1][2]
    return blocks


def _power_of_two(n: int) -> int:
    """The largest power of two that is not above n."""
    return 1 << (n.bit_length() - 1)


def _fits(width: int, heads: int, vectors: int, room: int) -> bool:
    return vectors % width == 0 and (width == 1 or width * heads <= room)
