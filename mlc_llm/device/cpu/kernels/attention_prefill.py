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

from mlc_llm.compile.attention_terms import HIDDEN, LOG2E, LOWEST
from mlc_llm.plugin import AttentionSpec

from .attention_rows import TileRows, load_rows, write_rows
from .attention_scores import capped
from .attention_source import KEY, VALUE, CPUMask, PageTensor, Source, Tables
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

TILE_ROWS = 64  # of a tile
KEY_CHUNK = 64  # keys between two steps of the softmax


@dataclass(frozen=True)
class _TileMemory:
    """Working memory of one tile, float32 but for the limits."""

    spec: AttentionSpec
    isa: Isa
    q: Buffer  # (key size, TILE_ROWS), scaled
    out: Buffer  # (value size, TILE_ROWS)
    scores: Buffer  # (KEY_CHUNK, rows of a strip), then weights
    keys: Buffer  # (KEY_CHUNK, key size)
    values: Buffer  # (KEY_CHUNK, value size)
    top: Buffer  # (TILE_ROWS,) running maximum
    total: Buffer  # (TILE_ROWS,) running sum
    first: Buffer  # (TILE_ROWS,) int32: first key that the row sees, sink apart
    last: Buffer  # (TILE_ROWS,) int32: one past the last

    @staticmethod
    def allocate(spec: AttentionSpec, isa: Isa) -> _TileMemory:
        strip, rows = _across(isa) * isa.lanes, TILE_ROWS
        shapes = (
            *((spec.key_size, rows), (spec.value_size, rows), (KEY_CHUNK, strip)),
            *((KEY_CHUNK, spec.key_size), (KEY_CHUNK, spec.value_size), (rows,), (rows,)),
        )
        limits = (scratch((rows,), "int32") for _ in range(2))
        return _TileMemory(spec, isa, *(scratch(shape) for shape in shapes), *limits)

    @property
    def mask(self) -> CPUMask:
        """Which keys a row sees."""
        return CPUMask.of(self.spec)

    @property
    def strip(self) -> int:
        """Rows of a strip."""
        return int(self.scores.shape[1])


def attend_many(
    qkv: Buffer,
    tables: Tables,
    pages: PageTensor,
    sinks: Buffer | None,
    out: Buffer,
    part: Expr,
    isa: Isa,
) -> None:
    """Emit `out` of the rows starts[part] .. starts[part + 1] - 1, tokens of one sequence.

    Raises:
        ValueError: more query heads share a key head than a tile has rows.
    """
    spec = pages.spec
    if spec.group > TILE_ROWS:
        raise ValueError(f"at most {TILE_ROWS} query heads may share a key head, not {spec.group}")
    per_tile = TILE_ROWS // spec.group
    begin = bind(T.Cast("int64", tables.starts[part]))
    queries = bind(T.Cast("int64", tables.starts[part + 1]) - begin)
    sequence = bind(tables.sequence(begin))
    tiles = bind(ceil_div(queries, per_tile))
    with parallel(tiles * spec.kv_heads) as task:
        h = bind(T.truncdiv(task, tiles))
        t = bind(T.truncmod(task, tiles))
        # 0, last, 1, last - 1, ...
        half = bind(T.truncdiv(t, i64(2)))
        t = bind(T.Select(T.truncmod(t, i64(2)) == i64(0), half, tiles - 1 - half))
        rows = TileRows(begin, queries, bind(t * per_tile), per_tile, spec.group, h)
        source, tile = Source(pages, tables, sequence, h), _TileMemory.allocate(spec, isa)
        load_rows(qkv, rows, spec, tile.q, isa)
        first, end = _begin(tile, rows, tables, sinks)
        spans = tile.mask.spans(first, end, KEY_CHUNK)
        with serial(spans.count) as c:
            chunk = bind(spans.first(c))
            count = bind(T.min(end - chunk, i64(KEY_CHUNK)))
            source.copy(KEY, chunk, count, tile.keys, gcd(spec.key_size, isa.lanes))
            source.copy(VALUE, chunk, count, tile.values, gcd(spec.value_size, isa.lanes))
            with serial(TILE_ROWS // tile.strip) as strip:
                _attend_chunk(tile, chunk, bind(strip * tile.strip))
        write_rows(rows, tile.out, tile.total, out, isa)


def _begin(
    tile: _TileMemory, rows: TileRows, tables: Tables, sinks: Buffer | None
) -> tuple[Expr, Expr]:
    """Empty sums and each row's limits; the first key in any row's window, and the last one's end.

    Limits grow from row to row. A sink's logit is what the softmax begins with.
    """
    with serial(TILE_ROWS) as r:
        position = bind(tables.position(rows.begin + rows.token_of(r)))
        top = LOWEST if sinks is None else sinks[rows.head_of(r)] * f32(LOG2E)
        T.buffer_store(tile.top, top, [r])
        T.buffer_store(tile.total, 0.0 if sinks is None else 1.0, [r])
        T.buffer_store(tile.first, T.Cast("int32", tile.mask.first(position)), [r])
        T.buffer_store(tile.last, T.Cast("int32", position + 1), [r])
    lanes = tile.isa.lanes
    with serial(tile.spec.value_size) as e, serial(TILE_ROWS // lanes) as v:
        store(tile.out, (e, v * lanes), splat(0.0, lanes), lanes)
    first, last = tile.first[i64(0)], tile.last[i64(TILE_ROWS - 1)]
    return bind(T.Cast("int64", first)), bind(T.Cast("int64", last))


def _attend_chunk(tile: _TileMemory, chunk: Expr, row: Expr) -> None:
    """The strip from `row` on against the chunk of keys from `chunk` on."""
    last_row = bind(row + (tile.strip - 1))
    end = T.Cast("int64", tile.last[last_row])
    count = bind(T.min(end - chunk, i64(KEY_CHUNK)))
    with when(count > 0):
        _scores(tile, row, count)
        hides = T.Cast("int64", tile.last[row]) < chunk + count
        if tile.spec.window is not None:
            hides = T.Or(hides, T.Cast("int64", tile.first[last_row]) > chunk)
        with when(hides):
            _hide(tile, chunk, row, count)
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


def _scores(tile: _TileMemory, row: Expr, count: Expr) -> None:
    """scores = keys q for the strip; past `count` there may be anything."""
    lanes, across, down = tile.isa.lanes, _across(tile.isa), _down(tile.isa)
    with serial(ceil_div(count, down)) as block:
        t = bind(block * down)
        sums = [[Accumulator(lanes) for _ in range(across)] for _ in range(down)]
        _product(
            tile.spec.key_size,
            lambda i, e: tile.keys[t + i, e],
            lambda e, v: load(tile.q, (e, row + v * lanes), lanes),
            sums,
        )
        for i, totals in enumerate(sums):
            for v, total in enumerate(totals):
                score = capped(tile.spec, total.get(), lanes)
                store(tile.scores, (t + i, i64(v * lanes)), score, lanes)


def _hide(tile: _TileMemory, chunk: Expr, row: Expr, count: Expr) -> None:
    """Lower the scores of keys that a row does not see."""
    lanes = tile.isa.lanes
    with serial(_across(tile.isa)) as v:
        first = bind(load(tile.first, (row + v * lanes,), lanes))
        last = bind(load(tile.last, (row + v * lanes,), lanes))
        with serial(count) as t:
            key = bind(splat(T.Cast("int32", chunk + t), lanes))
            seen = key < last
            if tile.spec.window is not None:
                seen = T.And(seen, tile.mask.in_window(key, first, lanes))
            score = load(tile.scores, (t, v * lanes), lanes)
            store(tile.scores, (t, v * lanes), T.Select(seen, score, splat(HIDDEN, lanes)), lanes)


def _softmax_step(tile: _TileMemory, row: Expr, count: Expr) -> list[Expr]:
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


def _add_values(tile: _TileMemory, row: Expr, count: Expr, decays: list[Expr]) -> None:
    """out = out decay + values^T scores for the strip."""
    lanes, across, down = (
        tile.isa.lanes,
        _across(tile.isa),
        gcd(_down(tile.isa), tile.spec.value_size),
    )
    with serial(tile.spec.value_size // down) as block:
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
