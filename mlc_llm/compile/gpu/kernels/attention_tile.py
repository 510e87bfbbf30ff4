"""The attention of a tile of rows, which a workgroup computes: the body of every kernel.

    out = sum over visible keys j of softmax_j(sm_scale q . k_j) v_j
    lse = log2 of the sum over visible keys of 2^(sm_scale log2(e) q . k_j)

A sequence without visible keys gives out = 0 and lse = -5e4, which the merge weighs with 0. Sliding
windows and sinks are masks by position: see `attention_source.py`.

Arithmetic is float32 whatever the tensors' dtype is; the running maximum makes any score safe.

A row is a query of one sequence and one of the heads that share a key head, so that a key is read
once for all of them. The workgroup goes over the keys in tiles, one key a thread:

1. each thread: the scores of its key with all rows;
2. together: the rows' new maximum m' (`reduce`);
3. each thread: 2^(s - m') of its key, for the others to see;
4. each thread: its elements of the output, over all keys of the tile.

    m' = max(m, scores)    c = 2^(m - m')    d = d c + sum 2^(s - m')    o = o c + sum 2^(s - m') v

Where a head has fewer elements than there are threads, parts of the threads share the keys of a
tile in step 4, and their outputs are added up in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from .attention_source import KEY, VALUE, Source, Visibility
from .launch import (
    Buffer,
    Expr,
    barrier,
    bind,
    ceil_div,
    f32,
    fill,
    i32,
    load_f32,
    reduce,
    registers,
    serial,
    shared,
    size,
    store,
    strided,
    unrolled,
    when,
)

LOWEST = -5e4  # the maximum before any key; no score is as low
HIDDEN = -1e30  # the score of a key that is not seen
LOG2E = math.log2(math.e)
MOST_ROWS = 8


@dataclass(frozen=True)
class Tile:
    """How a workgroup divides its work.

    Args:
        rows: queries times heads.
        threads: keys that are taken at a time.
        head_dim: elements of a head.
    """

    rows: int
    threads: int
    head_dim: int

    @staticmethod
    def fitting(most_rows: int, threads: int, head_dim: int, memory: int) -> Tile:
        """The tile of most rows whose queries and scores fit into a workgroup's memory."""
        rows = 1
        while rows < min(most_rows, MOST_ROWS) and 2 * rows * (head_dim + threads) * 4 <= memory:
            rows *= 2
        return Tile(rows, threads, head_dim)

    @property
    def parts(self) -> int:
        """Parts of the threads that share the keys of a tile."""
        return max(1, self.threads // self.head_dim)

    @property
    def width(self) -> int:
        """Threads of a part, neighbours of which take neighbouring elements."""
        return min(self.threads, self.head_dim)

    @property
    def elements(self) -> int:
        """Elements of the output that a thread makes, for each row."""
        return -(-self.head_dim // self.width)


@dataclass(frozen=True)
class Queries:
    """The queries of one sequence and of the heads that share a key head.

    Args:
        q, out, lse: the tensors.
        b: the sequence.
        first: its first query.
        count: how many it has.
        head: the first of the heads.
        group: how many heads there are.
        tile: the workgroup's place among the tiles of rows.
    """

    q: Buffer
    out: Buffer
    lse: Buffer
    b: Expr
    first: Expr
    count: Expr
    head: Expr
    group: int
    tile: Expr
    rows: int

    def index(self, r: Expr) -> Expr:
        """The query of a row of the tile; past the end, the last one, if there is one."""
        i = T.truncdiv(self.tile * i32(self.rows) + r, i32(self.group))
        return T.max(T.min(i, self.count - i32(1)), i32(0))

    def token(self, r: Expr) -> Expr:
        """The token of a row."""
        return T.min(self.first + self.index(r), self.q.shape[0] - i32(1))

    def exists(self, r: Expr) -> Expr:
        """Whether the row is there."""
        return self.tile * i32(self.rows) + r < self.count * i32(self.group)

    def place(self, r: Expr) -> tuple[Expr, Expr]:
        """Token and head of a row."""
        row = self.tile * i32(self.rows) + r
        return self.token(r), self.head + T.truncmod(row, i32(self.group))


def attend(
    queries: Queries, source: Source, mask: Visibility, tile: Tile, sm_scale: Expr, thread: Expr
) -> None:
    """Attend to all visible keys, and write `out` and `lse`; see the top of this module.

    Args:
        queries: the workgroup's rows.
        source: the sequence's keys and values.
        mask: which keys a query sees.
        tile: how the threads divide the work.
        sm_scale: what scores are multiplied by.
        thread: the thread's number in its workgroup.
    """
    rows, threads = tile.rows, tile.threads
    q, scores = shared((rows, tile.head_dim)), shared((rows, threads))
    top, norm, score = (registers((rows,)) for _ in range(3))
    first, end = (registers((rows,), "int32") for _ in range(2))
    out = registers((rows * tile.elements,))
    fill(top, LOWEST)
    fill(norm, 0.0)
    fill(out, 0.0)
    _copy_queries(queries, q, tile, sm_scale, thread)
    barrier()
    with unrolled(rows) as r:
        store(first, (r,), mask.first(queries.b, queries.token(r)))
        store(end, (r,), mask.end(source.length, queries.count, queries.index(r)))
    stop = bind(end[i32(rows - 1)])
    start = i32(0) if mask.has_sink else first[i32(0)]
    begin = bind(T.Select(queries.exists(i32(0)), start, stop))
    with serial(ceil_div(T.max(stop - begin, i32(0)), threads)) as step:
        chunk = bind(begin + step * i32(threads))
        _scores(source, mask, q, score, (first, end), queries.b, bind(chunk + thread))
        _softmax(top, norm, score, scores, out, tile, thread)
        _accumulate(source, scores, out, tile, chunk, thread)
        barrier()
    reduce(norm, scores, thread, lambda a, b: a + b)
    _finish(queries, top, norm, out, scores, tile, thread)


def _copy_queries(queries: Queries, q: Buffer, tile: Tile, sm_scale: Expr, thread: Expr) -> None:
    """The rows' queries, scaled, into the workgroup's memory."""
    with strided(thread, size(tile.rows * tile.head_dim), tile.threads) as at:
        r, i = bind(T.truncdiv(at, i32(tile.head_dim))), bind(T.truncmod(at, i32(tile.head_dim)))
        value = load_f32(queries.q, (*queries.place(r), i))
        store(q, (r, i), value * (sm_scale * f32(LOG2E)))


def _scores(
    source: Source,
    mask: Visibility,
    q: Buffer,
    score: Buffer,
    bounds: tuple[Buffer, Buffer],
    b: Expr,
    key: Expr,
) -> None:
    """The scores of one key with all rows, which see the keys within their bounds."""
    first, end = bounds
    rows, head_dim = (int(s) for s in q.shape)
    # Past the end the last key is read again; no query sees it there.
    place = source.find(bind(T.min(key, source.length - i32(1))))
    fill(score, 0.0)
    with serial(head_dim) as i:
        k = bind(source.load(KEY, place, i))
        with unrolled(rows) as r:
            store(score, (r,), score[r] + q[r, i] * k)
    with unrolled(rows) as r:
        seen = mask.sees(b, key, first[r], end[r])
        store(score, (r,), T.Select(seen, score[r], f32(HIDDEN)))


def _softmax(
    top: Buffer, norm: Buffer, score: Buffer, scores: Buffer, out: Buffer, tile: Tile, thread: Expr
) -> None:
    """One step of the running softmax; leaves the keys' weights in `scores`."""
    new = registers((tile.rows,))
    with unrolled(tile.rows) as r:
        store(new, (r,), T.max(score[r], top[r]))
    reduce(new, scores, thread, T.max)
    with unrolled(tile.rows) as r:
        weight = bind(T.exp2(score[r] - new[r]))
        correction = bind(T.exp2(top[r] - new[r]))
        store(top, (r,), new[r])
        store(norm, (r,), norm[r] * correction + weight)
        store(scores, (r, thread), weight)
        for e in range(tile.elements):
            at = r * i32(tile.elements) + i32(e)
            store(out, (at,), out[at] * correction)
    barrier()


def _accumulate(
    source: Source, scores: Buffer, out: Buffer, tile: Tile, chunk: Expr, thread: Expr
) -> None:
    """Add a tile's values, weighted, to a thread's elements of the output."""
    part, lane = (
        bind(T.truncdiv(thread, i32(tile.width))),
        bind(T.truncmod(thread, i32(tile.width))),
    )
    count = bind(T.min(source.length - chunk, i32(tile.threads)))
    with when(part < i32(tile.parts)), strided(part, count, tile.parts) as j:
        place = source.find(bind(chunk + j))
        for e in range(tile.elements):
            element = bind(lane + i32(e * tile.width))
            with when(element < i32(tile.head_dim)):
                v = bind(source.load(VALUE, place, element))
                with unrolled(tile.rows) as r:
                    at = r * i32(tile.elements) + i32(e)
                    store(out, (at,), out[at] + scores[r, j] * v)


def _finish(
    queries: Queries,
    top: Buffer,
    norm: Buffer,
    out: Buffer,
    scratch: Buffer,
    tile: Tile,
    thread: Expr,
) -> None:
    """Add up the parts, divide, and write."""
    if tile.parts > 1:
        with unrolled(tile.rows) as r:
            store(scratch, (r, thread), out[r])
        barrier()
        for part in range(1, tile.parts):
            with when(thread < i32(tile.width)), unrolled(tile.rows) as r:
                store(out, (r,), out[r] + scratch[r, thread + i32(part * tile.width)])
    with unrolled(tile.rows) as r, when(queries.exists(r)):
        token, head = (bind(index) for index in queries.place(r))
        share = bind(f32(1.0) / T.max(norm[r], f32(1e-30)))
        for e in range(tile.elements):
            element = bind(thread + i32(e * tile.width))
            with when(T.And(thread < i32(tile.width), element < i32(tile.head_dim))):
                at = r * i32(tile.elements) + i32(e)
                store(queries.out, (token, head, element), out[at] * share)
        with when(thread == i32(0)):
            total = T.log2(T.max(norm[r], f32(1e-30))) + top[r]
            value = T.Select(norm[r] > f32(0.0), total, f32(LOWEST))
            store(queries.lse, (token, head), value)
