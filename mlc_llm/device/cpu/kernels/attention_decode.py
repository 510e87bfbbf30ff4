"""Attention of one token: the heads that share a key head against all keys. See `attention.py`.

Keys go in pieces of 256, each a task of its own (flash-decoding), so that one sequence can feed
many threads. A piece gives, for each of its query heads,

    m = max s    out = (sum 2^(s - m) v) / (sum 2^(s - m))    lse = m + log2(sum 2^(s - m))

of its scores s in base 2: all scores, then the weights, then the values. Where a row has one piece,
that is the result. Where it has more, `attention_pieces.py` joins them. The pieces are the same for
any number of threads, and so is the result.

Keys and values are read once, converted as they are loaded, while those two pages ahead come into
the CPU's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import HIDDEN, LOWEST, query_scale
from mlc_llm.plugin import PAGE_SIZE, AttentionSpec

from .attention_pieces import share_of
from .attention_scores import capped
from .attention_source import KEY, VALUE, CPUMask, Source
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

PIECE_KEYS = 256  # keys of a piece
_AHEAD = 2  # pages between what is read and what is prefetched


@dataclass(frozen=True)
class Row:
    """The query heads of one row that share a key head.

    Args:
        qkv: (rows, qkv width), of which the queries are the first columns.
        row: the row.
        head: the key head.
        position: the row's position.
        seen_from: the first key in its window.
    """

    qkv: Buffer
    row: Expr
    head: Expr
    position: Expr
    seen_from: Expr


@dataclass(frozen=True)
class Piece:
    """The query heads of one key head, and what they give over a piece of its keys."""

    spec: AttentionSpec
    isa: Isa
    query: Buffer  # (heads, key size), scaled
    scores: Buffer  # (heads, PIECE_KEYS), then weights
    out: Buffer  # (heads, value size)
    total: Buffer  # (heads,) sum of the weights
    lse: Buffer  # (heads,)

    @staticmethod
    def allocate(spec: AttentionSpec, isa: Isa) -> Piece:
        """Working memory for one piece."""
        heads = spec.group
        shapes = ((heads, spec.key_size), (heads, PIECE_KEYS), (heads, spec.value_size))
        return Piece(spec, isa, *map(scratch, (*shapes, (heads,), (heads,))))

    @property
    def heads(self) -> int:
        """Query heads of the piece."""
        return self.spec.group

    def lanes(self, which: int) -> int:
        """Lanes of a vector of a key's or a value's elements."""
        return gcd(self.spec.key_size if which == KEY else self.spec.value_size, self.isa.lanes)

    def vectors(self, which: int) -> int:
        """Vectors of a key or a value."""
        elements = self.spec.key_size if which == KEY else self.spec.value_size
        return elements // self.lanes(which)

    def inverse_total(self, j: Expr) -> Expr:
        """What the sums of head j are multiplied by. Without a visible key they are 0."""
        return bind(f32(1) / T.Select(self.total[j] > f32(0), self.total[j], f32(1)))

    def keep(self, parts: Buffer, parts_lse: Buffer, item: Expr, first_head: Expr) -> None:
        """Write it as piece `item` of `parts` (pieces, query heads, value size) and their lse."""
        lanes = self.lanes(VALUE)
        with serial(self.heads) as j:
            factor = bind(splat(self.inverse_total(j), lanes))
            with serial(self.vectors(VALUE)) as i:
                value = load(self.out, (j, i * lanes), lanes) * factor
                store(parts, (item, first_head + j, i * lanes), value, lanes)
            T.buffer_store(parts_lse, self.lse[j], [item, first_head + j])


def attend_piece(row: Row, source: Source, mask: CPUMask, begin: Expr, isa: Isa) -> Piece:
    """Emit the attention of a row over the keys from `begin` on, a multiple of PIECE_KEYS."""
    piece = Piece.allocate(source.pages.spec, isa)
    _load_query(piece, row)
    end = bind(T.min(begin + PIECE_KEYS, row.position + 1))
    if mask.window is not None and not mask.sink:
        # Pages before the window are left out; what is left of its first page is masked.
        first_page = T.truncdiv(row.seen_from, i64(PAGE_SIZE))
        begin = bind(T.max(begin, first_page * PAGE_SIZE))
    count = bind(T.max(end - begin, i64(0)))
    first_page = bind(T.truncdiv(begin, i64(PAGE_SIZE)))
    _scores(piece, source, first_page, count)
    with serial(piece.heads) as j:
        _softmax(piece, j, mask, row.seen_from, begin, count)
    _values(piece, source, first_page, count)
    return piece


def write_piece(
    piece: Piece, sinks: Buffer | None, out: Buffer, row: Expr, first_head: Expr
) -> None:
    """out[row] of the piece's heads, where it is the row's only piece."""
    lanes = piece.lanes(VALUE)
    with serial(piece.heads) as j:
        head = bind(first_head + j)
        factor = piece.inverse_total(j)
        if sinks is not None:
            factor = factor * share_of(piece.lse[j], sinks[head])
        factor = bind(splat(factor, lanes))
        with serial(piece.vectors(VALUE)) as i:
            value = load(piece.out, (j, i * lanes), lanes) * factor
            store_f32(out, (row, head * piece.spec.value_size + i * lanes), value, lanes)


def _load_query(piece: Piece, row: Row) -> None:
    """The scaled queries."""
    lanes, width = piece.lanes(KEY), piece.spec.key_size
    scale = splat(f32(query_scale(piece.spec)), lanes)
    with serial(piece.heads) as j, serial(piece.vectors(KEY)) as i:
        at = (row.row, (row.head * piece.heads + j) * width + i * lanes)
        store(piece.query, (j, i * lanes), load_f32(row.qkv, at, lanes) * scale, lanes)


def _scores(piece: Piece, source: Source, first_page: Expr, count: Expr) -> None:
    """scores[j, t] = query[j] . key t, whole pages of keys; meanwhile, later keys are fetched."""
    tile = piece.isa.registers // 2
    together = min(PAGE_SIZE, _power_of_two(tile // min(4, piece.heads)))
    pages = bind(ceil_div(count, PAGE_SIZE))
    with serial(pages) as p:
        page = source.look_up(bind(first_page + p))
        # Past the keys of the piece come its values.
        ahead = bind(p + _AHEAD)
        ahead_which = bind(T.Select(ahead < pages, i64(KEY), i64(VALUE)))
        ahead_page = bind(T.Select(ahead < pages, ahead, T.min(ahead - pages, pages - 1)))
        ahead_page = source.look_up(bind(first_page + ahead_page))
        with serial(PAGE_SIZE // together) as block:
            slot = bind(block * together)
            for t in range(together):
                _fetch(piece, source, ahead_which, ahead_page, slot + t)
            for first_head, heads, times in _blocks(piece.heads, min(4, tile)):
                with serial(times) as j:
                    head = bind(j * heads + first_head)
                    at = bind(p * PAGE_SIZE + slot)
                    _score_tile(piece, source, page, slot, together, head, heads, at)


def _score_tile(
    piece: Piece,
    source: Source,
    page: Expr,
    slot: Expr,
    keys: int,
    head: Expr,
    heads: int,
    at: Expr,
) -> None:
    """scores[head + j, at + t] = query[head + j] . key t for some heads and keys of a page."""
    lanes = piece.lanes(KEY)
    dots = [[Accumulator(lanes) for _ in range(keys)] for _ in range(heads)]
    with serial(piece.vectors(KEY)) as i:
        element = bind(i * lanes)
        vectors = [bind(source.load(KEY, page, slot + t, element, lanes)) for t in range(keys)]
        for j, row in enumerate(dots):
            query = bind(load(piece.query, (head + j, element), lanes))
            for dot, vector in zip(row, vectors, strict=True):
                dot.add(vector * query)
    width = min(keys, lanes)
    rows = [row[t : t + width] for row in dots for t in range(0, keys, width)]
    places = [(head + j, at + t) for j in range(heads) for t in range(0, keys, width)]
    several = max(1, lanes // width)  # rows whose sums fill one vector
    while rows:
        count = _power_of_two(min(several, len(rows)))
        part, rows = rows[:count], rows[count:]
        sums = bind(fold_sums([dot.get() for row in part for dot in row], lanes))
        for n in range(count):
            one = T.Shuffle([sums], list(range(n * width, (n + 1) * width)))
            store(piece.scores, places.pop(0), one if count > 1 else sums, width)


def _softmax(
    piece: Piece, j: Expr, mask: CPUMask, seen_from: Expr, begin: Expr, count: Expr
) -> None:
    """Turn the scores of head j into weights."""
    lanes = piece.isa.lanes
    top, total = Accumulator(lanes, LOWEST), Accumulator(lanes)
    vectors = bind(ceil_div(count, lanes))
    with serial(vectors) as i:
        index = bind(T.ramp(T.Cast("int32", i * lanes), i32(1), lanes))
        seen = index < splat(T.Cast("int32", count), lanes)
        if mask.window is not None:
            key = bind(index + splat(T.Cast("int32", begin), lanes))
            seen = T.And(seen, mask.in_window(key, splat(T.Cast("int32", seen_from), lanes), lanes))
        score = capped(piece.spec, load(piece.scores, (j, i * lanes), lanes), lanes)
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


def _values(piece: Piece, source: Source, first_page: Expr, count: Expr) -> None:
    """out[j] = sum over t of weight[j, t] * value t, some heads and vectors at a time."""
    lanes, vectors, room = piece.lanes(VALUE), piece.vectors(VALUE), piece.isa.registers // 2
    for first_head, heads, times in _blocks(piece.heads, 8 if room >= 16 else 4):
        width = max(w for w in range(1, vectors + 1) if _fits(w, heads, vectors, room))
        with serial(times) as block, serial(vectors // width) as part:
            head = bind(block * heads + first_head)
            elements = [bind((part * width + i) * lanes) for i in range(width)]
            sums = [[Accumulator(lanes) for _ in range(width)] for _ in range(heads)]
            _add_values(piece, source, first_page, count, head, elements, sums)
            for j, row in enumerate(sums):
                for element, total in zip(elements, row, strict=True):
                    store(piece.out, (head + j, element), total.get(), lanes)


def _add_values(
    piece: Piece,
    source: Source,
    first_page: Expr,
    count: Expr,
    head: Expr,
    elements: list[Expr],
    sums: list[list[Accumulator]],
) -> None:
    """sums[j][i] += weight[head + j, t] * value t[elements[i] ...]."""
    lanes, pages = piece.lanes(VALUE), bind(ceil_div(count, PAGE_SIZE))
    with serial(pages) as p:
        page = source.look_up(bind(first_page + p))
        ahead = source.look_up(bind(first_page + T.min(p + _AHEAD, pages - 1)))
        with serial(T.min(count - p * PAGE_SIZE, i64(PAGE_SIZE))) as slot:
            for element in elements:
                source.fetch(VALUE, ahead, slot, element)
            values = [bind(source.load(VALUE, page, slot, e, lanes)) for e in elements]
            for j, row in enumerate(sums):
                weight = bind(splat(piece.scores[head + j, p * PAGE_SIZE + slot], lanes))
                for total, value in zip(row, values, strict=True):
                    total.add(value * weight)


def _fetch(piece: Piece, source: Source, which: Expr, page: Expr, slot: Expr) -> None:
    """Ask for all lines of a key or value."""
    line = 64 // (2 if source.pages.tensor.dtype == "float16" else 4)
    for i in range(-(-max(piece.spec.key_size, piece.spec.value_size) // line)):
        source.fetch(which, page, slot, i64(i * line))


def _blocks(heads: int, most: int) -> list[tuple[int, int, int]]:
    """The heads in blocks of at most `most`: (first, at a time, how many times)."""
    blocks, first = [], 0
    for few in range(most, 0, -1):
        if times := (heads - first) // few:
            blocks.append((first, few, times))
            first += few * times
    return blocks


def _power_of_two(n: int) -> int:
    """The largest power of two that is not above n."""
    return 1 << (n.bit_length() - 1)


def _fits(width: int, heads: int, vectors: int, room: int) -> bool:
    return vectors % width == 0 and (width == 1 or width * heads <= room)
