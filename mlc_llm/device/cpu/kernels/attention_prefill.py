"""Attention of many tokens: tiles of queries against all keys. See `attention.py`.

A tile has 64 rows: some tokens times the query heads that share a key head. It is kept transposed,
so that rows are lanes; then no sum crosses lanes, and keys and values are read as they are stored:

    S^T (keys, rows) = K (keys, d) Q^T (d, rows)
    O^T (d, rows) = O^T c + V^T (d, keys) P^T (keys, rows)

Keys go in chunks of 64, copied once a tile as float32. A tile is worked on in strips of a few
vectors of rows, which fit into the first-level cache with a chunk; each strip sees only as much of
a chunk as its last row does, and masks only where one of its rows sees less. After each chunk
comes one step of the running softmax, in which every lane is a row:

    m' = max(m, S)    c = 2^(m - m')    P = 2^(S - m')    total = total c + sum P

Tiles are independent. Later ones see more keys: pairs of an early and a late tile share the load
between the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from .attention_rows import Rows, load_rows, write_rows
from .attention_source import HIDDEN, KEY, LOWEST, VALUE, Mask, PagedKeys, RaggedKeys
from .isa import Isa
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    bind,
    ceil_div,
    exp2_nonpositive,
    i64,
    load,
    parallel,
    scratch,
    serial,
    splat,
    store,
    when,
)

ROWS = 64  # of a tile
CHUNK = 64  # keys between two steps of the softmax


@dataclass(frozen=True)
class _Tile:
    """Working memory of one tile, float32 but for the limits."""

    isa: Isa
    q: Buffer  # (d, ROWS), scaled
    out: Buffer  # (d, ROWS)
    scores: Buffer  # (CHUNK, rows of a strip), then weights
    keys: Buffer  # (CHUNK, d)
    values: Buffer  # (CHUNK, d)
    top: Buffer  # (ROWS,) running maximum
    total: Buffer  # (ROWS,) running sum
    first: Buffer  # (ROWS,) int32: first key that the row sees, sink apart
    last: Buffer  # (ROWS,) int32: one past the last

    @staticmethod
    def allocate(d: int, isa: Isa) -> _Tile:
        strip = _across(isa) * isa.lanes
        shapes = ((d, ROWS), (d, ROWS), (CHUNK, strip), (CHUNK, d), (CHUNK, d), (ROWS,), (ROWS,))
        limits = (scratch((ROWS,), "int32") for _ in range(2))
        return _Tile(isa, *(scratch(shape) for shape in shapes), *limits)

    @property
    def d(self) -> int:
        return int(self.q.shape[0])

    @property
    def strip(self) -> int:
        """Rows of a strip."""
        return int(self.scores.shape[1])


def attend_many(
    q: Buffer,
    q_indptr: Buffer,
    keys: PagedKeys | RaggedKeys,
    mask: Mask,
    positions: Buffer,
    out: Buffer,
    lse: Buffer,
    b: Expr,
    sm_scale: Expr,
    isa: Isa,
) -> None:
    """Emit out and lse of all queries of sequence b: tokens q_indptr[b] .. q_indptr[b + 1] - 1.

    q, out (s, hq, d); lse (s, hq); positions (s,) int32.

    Raises:
        ValueError: more query heads share a key head than a tile has rows.
    """
    d, group = int(q.shape[2]), int(q.shape[1]) // keys.heads
    if group > ROWS:
        raise ValueError(f"at most {ROWS} query heads may share a key head, not {group}")
    per_tile = ROWS // group
    begin = bind(T.Cast("int64", q_indptr[b]))
    queries = bind(T.Cast("int64", q_indptr[b + 1]) - begin)
    tiles = bind(ceil_div(queries, per_tile))
    with parallel(tiles * keys.heads) as task:
        h = bind(T.truncdiv(task, tiles))
        t = bind(T.truncmod(task, tiles))
        # 0, last, 1, last - 1, ...
        half = bind(T.truncdiv(t, i64(2)))
        t = bind(T.Select(T.truncmod(t, i64(2)) == i64(0), half, tiles - 1 - half))
        rows = Rows(begin, queries, bind(t * per_tile), per_tile, group, h)
        source, tile = keys.of(b, h), _Tile.allocate(d, isa)
        load_rows(q, rows, sm_scale, tile.q, isa)
        first, end = _begin(tile, rows, positions, source.length, mask)
        spans = mask.spans(first, end, CHUNK)
        with serial(spans.count) as c:
            chunk = bind(spans.first(c))
            count = bind(T.min(end - chunk, i64(CHUNK)))
            lanes = gcd(d, isa.lanes)
            source.copy(KEY, chunk, count, tile.keys, lanes)
            source.copy(VALUE, chunk, count, tile.values, lanes)
            with serial(ROWS // tile.strip) as strip:
                _attend_chunk(tile, mask, chunk, bind(strip * tile.strip))
        write_rows(rows, tile.out, tile.total, tile.top, out, lse, isa)


def _begin(
    tile: _Tile, rows: Rows, positions: Buffer, length: Expr, mask: Mask
) -> tuple[Expr, Expr]:
    """Empty sums and each row's limits; the first key in any row's window, and the last one's end.

    Limits grow from row to row.
    """
    with serial(ROWS) as r:
        token = rows.token_of(r)
        T.buffer_store(tile.top, LOWEST, [r])
        T.buffer_store(tile.total, 0.0, [r])
        T.buffer_store(tile.first, mask.first(positions[rows.begin + token]), [r])
        last = T.max(mask.last(length, rows.queries, token), i64(0))
        T.buffer_store(tile.last, T.Cast("int32", last), [r])
    lanes = tile.isa.lanes
    with serial(tile.d) as e, serial(ROWS // lanes) as v:
        store(tile.out, (e, v * lanes), splat(0.0, lanes), lanes)
    return bind(tile.first[i64(0)]), bind(T.Cast("int64", tile.last[i64(ROWS - 1)]))


def _attend_chunk(tile: _Tile, mask: Mask, chunk: Expr, row: Expr) -> None:
    """The strip from `row` on against the chunk of keys from `chunk` on."""
    last_row = bind(row + (tile.strip - 1))
    end = T.Cast("int64", tile.last[last_row])
    count = bind(T.min(end - chunk, i64(CHUNK)))
    with when(count > 0):
        _scores(tile, row, count)
        hides = T.Cast("int64", tile.last[row]) < chunk + count
        if mask.window is not None:
            hides = T.Or(hides, T.Cast("int64", tile.first[last_row]) > chunk)
        with when(hides):
            _hide(tile, mask, chunk, row, count)
        decays = _softmax_step(tile, row, count)
        _add_values(tile, row, count, decays)


def _across(isa: Isa) -> int:
    """Vectors of rows in a register tile, and in a strip."""
    return 4 if isa.lanes == 4 and isa.registers >= 32 else 2


def _down(isa: Isa) -> int:
    """Rows of a register tile: half of the registers hold sums."""
    return isa.registers // 2 // _across(isa)


def _product(
    depth: Expr,
    left: Callable[[int, Expr], Expr],
    right: Callable[[Expr, int], Expr],
    sums: list[list[Accumulator]],
) -> None:
    """sums[i][v] += sum over t of left(i, t) * right(t, v)."""
    with serial(depth) as t:
        vectors = [bind(right(t, v)) for v in range(len(sums[0]))]
        for i, row in enumerate(sums):
            factor = bind(splat(left(i, t), row[0].lanes))
            for total, vector in zip(row, vectors, strict=True):
                total.add(vector * factor)


def _scores(tile: _Tile, row: Expr, count: Expr) -> None:
    """scores = keys q for the strip; past `count` there may be anything."""
    lanes, across, down = tile.isa.lanes, _across(tile.isa), _down(tile.isa)
    with serial(ceil_div(count, down)) as block:
        t = bind(block * down)
        sums = [[Accumulator(lanes) for _ in range(across)] for _ in range(down)]
        _product(
            tile.d,
            lambda i, e: tile.keys[t + i, e],
            lambda e, v: load(tile.q, (e, row + v * lanes), lanes),
            sums,
        )
        for i, totals in enumerate(sums):
            for v, total in enumerate(totals):
                store(tile.scores, (t + i, i64(v * lanes)), total.get(), lanes)


def _hide(tile: _Tile, mask: Mask, chunk: Expr, row: Expr, count: Expr) -> None:
    """Lower the scores of keys that a row does not see."""
    lanes = tile.isa.lanes
    with serial(_across(tile.isa)) as v:
        first = bind(load(tile.first, (row + v * lanes,), lanes))
        last = bind(load(tile.last, (row + v * lanes,), lanes))
        with serial(count) as t:
            key = bind(splat(T.Cast("int32", chunk + t), lanes))
            seen = key < last
            if mask.window is not None:
                seen = T.And(seen, mask.sees(key, first, lanes))
            score = load(tile.scores, (t, v * lanes), lanes)
            store(tile.scores, (t, v * lanes), T.Select(seen, score, splat(HIDDEN, lanes)), lanes)


def _softmax_step(tile: _Tile, row: Expr, count: Expr) -> list[Expr]:
    """Turn the scores of the strip into weights; by what to multiply what was summed before."""
    lanes, vectors = tile.isa.lanes, range(_across(tile.isa))
    at = [bind(row + v * lanes) for v in vectors]
    old = [bind(load(tile.top, (r,), lanes)) for r in at]
    tops = [Accumulator(lanes, value) for value in old]
    with serial(count) as t:
        for v in vectors:
            tops[v].set(T.max(tops[v].get(), load(tile.scores, (t, i64(v * lanes)), lanes)))
    new = [bind(top.get()) for top in tops]
    decays = [exp2_nonpositive(old[v] - new[v], lanes) for v in vectors]
    totals = [Accumulator(lanes, load(tile.total, (at[v],), lanes) * decays[v]) for v in vectors]
    with serial(count) as t:
        for v in vectors:
            place = (t, i64(v * lanes))
            weight = exp2_nonpositive(load(tile.scores, place, lanes) - new[v], lanes)
            store(tile.scores, place, weight, lanes)
            totals[v].add(weight)
    for v in vectors:
        store(tile.top, (at[v],), new[v], lanes)
        store(tile.total, (at[v],), totals[v].get(), lanes)
    return decays


def _add_values(tile: _Tile, row: Expr, count: Expr, decays: list[Expr]) -> None:
    """out = out decay + values^T scores for the strip."""
    lanes, across, down = tile.isa.lanes, _across(tile.isa), gcd(_down(tile.isa), tile.d)
    with serial(tile.d // down) as block:
        e = bind(block * down)
        places = [[(e + i, row + v * lanes) for v in range(across)] for i in range(down)]
        sums = [
            [Accumulator(lanes, load(tile.out, at, lanes) * decay) for at, decay in pairs]
            for pairs in (zip(line, decays, strict=True) for line in places)
        ]
        _product(
            count,
            lambda i, t: tile.values[t, e + i],
            lambda t, v: load(tile.scores, (t, i64(v * lanes)), lanes),
            sums,
        )
        for line, totals in zip(places, sums, strict=True):
            for at, total in zip(line, totals, strict=True):
                store(tile.out, at, total.get(), lanes)
