"""Attention of many tokens: tiles of queries against all keys. See `attention.py`.

A tile has 64 rows: some tokens times the query heads that share a key head. It is kept transposed,
so that rows are lanes; then no sum crosses lanes, and keys and values are read as they are stored:

    S^T (keys, rows) = K (keys, d) Q^T (d, rows)
    O^T (d, rows) += V^T (d, keys) P^T (keys, rows)

Keys go in chunks of 64, copied once as float32; after each chunk one step of the running softmax,
in which every lane is a row (the formula is in `attention_decode.py`). Tiles are independent. Later
ones see more keys: pairs of an early and a late tile share the load between the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from .attention_decode import CHUNK, HIDDEN, LOG2E, LOWEST
from .attention_source import Mask, PagedKeys, RaggedKeys, Source
from .isa import Isa
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    bind,
    ceil_div,
    exp2_nonpositive,
    f32,
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
_ACROSS = 2  # vectors of rows in a register tile


@dataclass(frozen=True)
class _Tile:
    """Working memory of one tile, float32 but for the limits."""

    q: Buffer  # (d, ROWS), scaled
    out: Buffer  # (d, ROWS)
    scores: Buffer  # (CHUNK, ROWS)
    keys: Buffer  # (CHUNK, d)
    values: Buffer  # (CHUNK, d)
    top: Buffer  # (ROWS,) running maximum
    total: Buffer  # (ROWS,) running sum
    first: Buffer  # (ROWS,) int32: first key that the row sees, sink apart
    last: Buffer  # (ROWS,) int32: one past the last

    @staticmethod
    def allocate(d: int) -> _Tile:
        floats = ((d, ROWS), (d, ROWS), (CHUNK, ROWS), (CHUNK, d), (CHUNK, d), (ROWS,), (ROWS,))
        limits = (scratch((ROWS,), "int32") for _ in range(2))
        return _Tile(*(scratch(shape) for shape in floats), *limits)


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
    per_tile = max(1, ROWS // group)
    if group > ROWS:
        raise ValueError(f"at most {ROWS} query heads may share a key head, not {group}")
    begin = bind(T.Cast("int64", q_indptr[b]))
    queries = bind(T.Cast("int64", q_indptr[b + 1]) - begin)
    tiles = bind(ceil_div(queries, per_tile))
    with parallel(tiles * keys.heads) as task:
        h = bind(T.truncdiv(task, tiles))
        t = bind(T.truncmod(task, tiles))
        # 0, last, 1, last - 1, ...
        half = bind(T.truncdiv(t, i64(2)))
        t = bind(T.Select(T.truncmod(t, i64(2)) == i64(0), half, tiles - 1 - half))
        rows = _Rows(begin, queries, bind(t * per_tile), per_tile, group, h)
        source, tile = keys.of(b, h), _Tile.allocate(d)
        _begin(tile, rows, q, positions, source, mask, sm_scale)
        first, end = rows.key_range(source, mask, positions)
        with serial(T.max(ceil_div(end, CHUNK) - first, i64(0))) as c:
            chunk = bind((c + first) * CHUNK)
            source.copy(chunk, i64(CHUNK), tile.keys, tile.values, gcd(d, isa.lanes))
            _scores(tile, isa)
            with serial(ROWS // isa.lanes) as v:
                _softmax_step(tile, mask, chunk, bind(v * isa.lanes), isa.lanes)
            _add_values(tile, isa)
        _finish(tile, rows, out, lse)


@dataclass(frozen=True)
class _Rows:
    """Which token and head a row of the tile is."""

    begin: Expr  # first token of the sequence
    queries: Expr  # tokens of the sequence
    token: Expr  # first token of the tile, counted from `begin`
    tokens: int  # tokens of a whole tile
    group: int  # heads of a token
    h: Expr  # key head

    def clamped(self, i: Expr) -> Expr:
        """Token i of the tile, counted from `begin`; the last one for those that do not exist."""
        return T.min(self.token + i, self.queries - 1)

    def key_range(self, source: Source, mask: Mask, positions: Buffer) -> tuple[Expr, Expr]:
        """First chunk and last key that any row sees."""
        end = mask.last(source.length, self.queries, self.clamped(i64(self.tokens - 1)))
        end = bind(T.min(end, source.length))
        if mask.window is None or mask.has_sink:
            return i64(0), end
        first = T.Cast("int64", mask.first(positions[self.begin + self.token]))
        return bind(T.truncdiv(first, i64(CHUNK))), end


def _begin(
    tile: _Tile,
    rows: _Rows,
    q: Buffer,
    positions: Buffer,
    source: Source,
    mask: Mask,
    sm_scale: Expr,
) -> None:
    """The scaled queries, transposed; empty sums; each row's limits."""
    d = int(q.shape[2])
    scale = bind(sm_scale * f32(LOG2E))
    with serial(ROWS) as r:
        i = bind(rows.clamped(T.min(T.truncdiv(r, i64(rows.group)), i64(rows.tokens - 1))))
        head = bind(rows.h * rows.group + T.truncmod(r, i64(rows.group)))
        with serial(d) as e:
            value = T.Cast("float32", q[rows.begin + i, head, e])
            T.buffer_store(tile.q, value * scale, [e, r])
            T.buffer_store(tile.out, f32(0), [e, r])
        T.buffer_store(tile.top, f32(LOWEST), [r])
        T.buffer_store(tile.total, f32(0), [r])
        last = T.min(mask.last(source.length, rows.queries, i), source.length)
        T.buffer_store(tile.first, mask.first(positions[rows.begin + i]), [r])
        T.buffer_store(tile.last, T.Cast("int32", last), [r])


def _product(
    depth: int,
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


def _down(isa: Isa) -> int:
    """Rows of a register tile."""
    return 8 if isa.registers >= 32 else 4


def _scores(tile: _Tile, isa: Isa) -> None:
    """scores = keys q."""
    lanes, down = isa.lanes, _down(isa)
    with serial(ROWS // (_ACROSS * lanes)) as across, serial(CHUNK // down) as block:
        at = bind(across * (_ACROSS * lanes))
        t = bind(block * down)
        sums = [[Accumulator(lanes) for _ in range(_ACROSS)] for _ in range(down)]
        _product(
            int(tile.q.shape[0]),
            lambda i, e: tile.keys[t + i, e],
            lambda e, v: load(tile.q, (e, at + v * lanes), lanes),
            sums,
        )
        for i, row in enumerate(sums):
            for v, total in enumerate(row):
                store(tile.scores, (t + i, at + v * lanes), total.get(), lanes)


def _softmax_step(tile: _Tile, mask: Mask, chunk: Expr, at: Expr, lanes: int) -> None:
    """Turn the scores of some rows into weights, and scale what was summed before."""
    first = bind(load(tile.first, (at,), lanes))
    last = bind(load(tile.last, (at,), lanes))
    old = bind(load(tile.top, (at,), lanes))
    top = Accumulator(lanes, old)
    with serial(CHUNK) as t:
        key = bind(splat(T.Cast("int32", chunk + t), lanes))
        seen = key < last
        if mask.window is not None:
            seen = T.And(seen, mask.sees(key, first, lanes))
        score = bind(T.Select(seen, load(tile.scores, (t, at), lanes), splat(HIDDEN, lanes)))
        store(tile.scores, (t, at), score, lanes)
        top.set(T.max(top.get(), score))
    new = bind(top.get())
    store(tile.top, (at,), new, lanes)
    decay = exp2_nonpositive(old - new, lanes)
    total = Accumulator(lanes, load(tile.total, (at,), lanes) * decay)
    with serial(CHUNK) as t:
        weight = exp2_nonpositive(load(tile.scores, (t, at), lanes) - new, lanes)
        store(tile.scores, (t, at), weight, lanes)
        total.add(weight)
    store(tile.total, (at,), total.get(), lanes)
    with serial(tile.out.shape[0]) as e:
        store(tile.out, (e, at), load(tile.out, (e, at), lanes) * decay, lanes)


def _add_values(tile: _Tile, isa: Isa) -> None:
    """out += values^T scores."""
    lanes, down = isa.lanes, _down(isa)
    with (
        serial(ROWS // (_ACROSS * lanes)) as across,
        serial(int(tile.out.shape[0]) // down) as block,
    ):
        at = bind(across * (_ACROSS * lanes))
        e = bind(block * down)
        sums = [
            [
                Accumulator(lanes, load(tile.out, (e + i, at + v * lanes), lanes))
                for v in range(_ACROSS)
            ]
            for i in range(down)
        ]
        _product(
            CHUNK,
            lambda i, t: tile.values[t, e + i],
            lambda t, v: load(tile.scores, (t, at + v * lanes), lanes),
            sums,
        )
        for i, row in enumerate(sums):
            for v, total in enumerate(row):
                store(tile.out, (e + i, at + v * lanes), total.get(), lanes)


def _finish(tile: _Tile, rows: _Rows, out: Buffer, lse: Buffer) -> None:
    """Divide, transpose back, and write the rows that exist."""
    with serial(rows.tokens) as i, when(rows.token + i < rows.queries), serial(rows.group) as j:
        r = bind(i * rows.group + j)
        token = bind(rows.begin + rows.token + i)
        head = bind(rows.h * rows.group + j)
        # Without a visible key the sums are 0 and stay so.
        total = bind(T.Select(tile.total[r] > f32(0), tile.total[r], f32(1)))
        with serial(tile.out.shape[0]) as e:
            value = T.Cast(out.dtype, tile.out[e, r] / total)
            T.buffer_store(out, value, [token, head, e])
        T.buffer_store(lse, tile.top[r] + T.log2(total), [token, head])
