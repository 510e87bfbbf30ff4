"""The attention of a tile of rows, which a workgroup computes: the body of every kernel.

    out = sum over visible keys j of softmax_j(score(q, k_j)) v_j

with the scores of `mlc_llm.plugin.AttentionSpec`, and a logit of its own for each head where the
description asks for it. Which keys are visible: see `attention_mask.py`.

Arithmetic is float32 whatever the tensors' dtypes are; the running maximum makes any score safe.

A row is a query of one sequence and one of the heads that share a key head, so that a key is read
once for all of them. The workgroup goes over the keys in chunks, one key a thread:

1. each thread: the scores s of its key with all rows, times log2(e);
2. together: the rows' new maximum m' (`reduce`);
3. each thread: 2^(s - m') of its key, for the others to see;
4. each thread: its elements of the output, over all keys of the chunk.

    m' = max(m, scores)    c = 2^(m - m')    d = d c + sum 2^(s - m')    o = o c + sum 2^(s - m') v

Where a value has fewer elements than there are threads, parts of the threads share the keys of a
chunk in step 4, and their outputs are added up in the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import HIDDEN, LOG2E, LOWEST, query_scale
from mlc_llm.plugin import AttentionSpec

from .attention_mask import GPUMask
from .launch import (
    Buffer,
    Expr,
    barrier,
    bind,
    f32,
    fill,
    i32,
    load_f32,
    reduce,
    registers,
    serial,
    shared,
    size,
    strided,
    unrolled,
    when,
    write,
)
from .pages import Pages

MOST_ROWS = 8


@dataclass(frozen=True)
class Tile:
    """How a workgroup divides its work.

    Args:
        rows: queries times heads.
        threads: keys that are taken at a time.
        value_size: elements of a row of the output.
    """

    rows: int
    threads: int
    value_size: int

    @staticmethod
    def fitting(spec: AttentionSpec, most_rows: int, threads: int, memory: int) -> Tile:
        """The tile of most rows whose queries and scores fit into a workgroup's memory."""
        row = 4 * (spec.key_size + threads)
        rows = 1
        while rows < min(most_rows, MOST_ROWS) and 2 * rows * row <= memory:
            rows *= 2
        return Tile(rows, threads, spec.value_size)

    @property
    def parts(self) -> int:
        """Parts of the threads that share the keys of a chunk."""
        return max(1, self.threads // self.value_size)

    @property
    def width(self) -> int:
        """Threads of a part, neighbours of which take neighbouring elements."""
        return min(self.threads, self.value_size)

    @property
    def elements(self) -> int:
        """Elements of the output that a thread makes, for each row."""
        return -(-self.value_size // self.width)


@dataclass(frozen=True)
class TileRows:
    """The rows of a tile: queries of one sequence, and the heads that share a key head.

    Args:
        qkv, positions, out: the tensors.
        first: the sequence's first token in them.
        count: how many tokens it has there.
        sequence: its row in the page table.
        kv_head: the key head.
        tile: the workgroup's place among the tiles.
        number: rows of a tile.
        spec: how the layer attends.
        single: whether the tile's rows are all of one token.
    """

    qkv: Buffer
    positions: Buffer
    out: Buffer
    first: Expr
    count: Expr
    sequence: Expr
    kv_head: Expr
    tile: Expr
    number: int
    spec: AttentionSpec
    single: bool

    def _place(self, r: Expr) -> Expr:
        return self.tile * i32(self.number) + r

    def exists(self, r: Expr) -> Expr:
        """Whether a row is there."""
        return self._place(r) < self.count * i32(self.spec.group)

    def token(self, r: Expr) -> Expr:
        """The token of a row; past the end, the last one."""
        i = T.truncdiv(self._place(r), i32(self.spec.group))
        i = T.max(T.min(i, self.count - i32(1)), i32(0))
        return T.min(self.first + i, self.positions.shape[0] - i32(1))

    def head(self, r: Expr) -> Expr:
        """The query head of a row."""
        group = i32(self.spec.group)
        return self.kv_head * group + T.truncmod(self._place(r), group)

    def position(self, r: Expr) -> Expr:
        """The position of a row's token."""
        return self.positions[self.token(r)]


@dataclass(frozen=True)
class Running:
    """What a thread knows of each row after some chunks, in registers.

    Args:
        top: (rows,), the maximum.
        norm: (rows,), the sum of the weights of the thread's own keys.
        out: (rows * elements,), its elements of the output.
    """

    top: Buffer
    norm: Buffer
    out: Buffer

    @staticmethod
    def start(tile: Tile, rows: TileRows, sinks: Buffer | None, thread: Expr) -> Running:
        """Before any key. A sink is a key with weight 1 and no value, which one thread counts."""
        running = Running(
            *(registers((n,)) for n in (tile.rows, tile.rows, tile.rows * tile.elements))
        )
        fill(running.out, 0.0)
        if sinks is None:
            fill(running.top, LOWEST)
            fill(running.norm, 0.0)
        else:
            with unrolled(tile.rows) as r:
                write(running.top, (r,), sinks[rows.head(r)] * f32(LOG2E))
                write(running.norm, (r,), T.Select(thread == i32(0), f32(1.0), f32(0.0)))
        return running


def attend(tile: Tile, rows: TileRows, pages: Pages, sinks: Buffer | None, thread: Expr) -> None:
    """Attend to all visible keys, and write `out`; see the top of this module.

    Args:
        tile: how the threads divide the work.
        rows: the workgroup's rows.
        pages: the layer's keys and values.
        sinks: a logit of each query head, or None.
        thread: the thread's number in its workgroup.
    """
    spec, threads = rows.spec, tile.threads
    q, weights = shared((tile.rows, spec.key_size)), shared((tile.rows, threads))
    score, positions = registers((tile.rows,)), registers((tile.rows,), "int32")
    running = Running.start(tile, rows, sinks, thread)
    _copy_queries(rows, q, tile, thread)
    barrier()
    with unrolled(tile.rows) as r:
        write(positions, (r,), rows.position(r))
    first, last = (bind(rows.position(i32(r))) for r in (0, tile.rows - 1))
    chunks = GPUMask.of(spec).spans(first, last, threads)
    with serial(T.Select(rows.exists(i32(0)), chunks.count, i32(0))) as step:
        chunk = chunks.first(step)
        _scores(rows, pages, q, score, positions, bind(chunk + thread), last)
        _softmax(running, score, weights, tile, thread)
        _accumulate(running, rows, pages, weights, tile, chunk, last, thread)
        barrier()
    reduce(running.norm, weights, thread, lambda a, b: a + b)
    barrier()
    _finish(running, rows, weights, tile, thread)


def _copy_queries(rows: TileRows, q: Buffer, tile: Tile, thread: Expr) -> None:
    """The rows' queries, scaled for `_capped`, into the workgroup's memory."""
    spec = rows.spec
    factor = f32(query_scale(spec))
    with strided(thread, size(tile.rows * spec.key_size), tile.threads) as at:
        r = bind(T.truncdiv(at, i32(spec.key_size)))
        i = bind(T.truncmod(at, i32(spec.key_size)))
        column = rows.head(r) * i32(spec.key_size) + i
        write(q, (r, i), load_f32(rows.qkv, (rows.token(r), column)) * factor)


def _capped(spec: AttentionSpec, product: Expr) -> Expr:
    """log2(e) times a score, from the product of a key with what `_copy_queries` made.

    tanh |x| = (1 - e^(-2 |x|)) / (1 + e^(-2 |x|)), of which no part is large; WGSL's own may be NaN
    where e^|x| overflows, and may be wrong by 1e-5.
    """
    if spec.soft_cap is None:
        return product
    x = bind(product)
    power = bind(T.exp2(T.abs(x) * f32(-2.0 * LOG2E)))
    size = bind((f32(1.0) - power) / (f32(1.0) + power))
    return T.Select(x < f32(0.0), -size, size) * f32(spec.soft_cap * LOG2E)


def _scores(
    rows: TileRows,
    pages: Pages,
    q: Buffer,
    score: Buffer,
    positions: Buffer,
    key: Expr,
    last: Expr,
) -> None:
    """The scores of one key with all rows, at their positions."""
    spec, mask = rows.spec, GPUMask.of(rows.spec)
    # Past the end the last key is read again; no query sees it there.
    place = pages.find(rows.sequence, bind(T.min(key, last)))
    fill(score, 0.0)
    with serial(spec.key_size) as i:
        k = bind(load_f32(pages.tensor, pages.key(place, rows.kv_head, i)))
        with unrolled(rows.number) as r:
            write(score, (r,), score[r] + q[r, i] * k)
    with unrolled(rows.number) as r:
        seen = mask.sees(positions[r], key)
        write(score, (r,), T.Select(seen, _capped(spec, score[r]), f32(HIDDEN)))


def _softmax(running: Running, score: Buffer, weights: Buffer, tile: Tile, thread: Expr) -> None:
    """One step of the running softmax; leaves the keys' weights in `weights`."""
    top, norm, out = running.top, running.norm, running.out
    new = registers((tile.rows,))
    with unrolled(tile.rows) as r:
        write(new, (r,), T.max(score[r], top[r]))
    reduce(new, weights, thread, T.max)
    barrier()
    with unrolled(tile.rows) as r:
        weight = bind(T.exp2(score[r] - new[r]))
        correction = bind(T.exp2(top[r] - new[r]))
        write(top, (r,), new[r])
        write(norm, (r,), norm[r] * correction + weight)
        write(weights, (r, thread), weight)
        for e in range(tile.elements):
            at = r * i32(tile.elements) + i32(e)
            write(out, (at,), out[at] * correction)
    barrier()


def _accumulate(
    running: Running,
    rows: TileRows,
    pages: Pages,
    weights: Buffer,
    tile: Tile,
    chunk: Expr,
    last: Expr,
    thread: Expr,
) -> None:
    """Add a chunk's values, weighted, to a thread's elements of the output."""
    out, part, lane = running.out, *_part(tile, thread)
    count = bind(T.min(last + i32(1) - chunk, i32(tile.threads)))
    with when(part < i32(tile.parts)), strided(part, count, tile.parts) as j:
        place = pages.find(rows.sequence, bind(chunk + j))
        for e in range(tile.elements):
            element = bind(lane + i32(e * tile.width))
            with when(element < i32(tile.value_size)):
                v = bind(load_f32(pages.tensor, pages.value(place, rows.kv_head, element)))
                with unrolled(tile.rows) as r:
                    at = r * i32(tile.elements) + i32(e)
                    write(out, (at,), out[at] + _weighted(rows, bind(weights[r, j]), v))


def _weighted(rows: TileRows, weight: Expr, v: Expr) -> Expr:
    """weight * v. A value that a row does not see may be NaN: it must not meet its weight of 0."""
    if rows.single and rows.spec.window is None:
        return weight * v  # All rows see all keys.
    return T.Select(weight == f32(0.0), f32(0.0), weight * v)


def _part(tile: Tile, thread: Expr) -> tuple[Expr, Expr]:
    """A thread's part, and its place in it."""
    width = i32(tile.width)
    return bind(T.truncdiv(thread, width)), bind(T.truncmod(thread, width))


def _finish(running: Running, rows: TileRows, scratch: Buffer, tile: Tile, thread: Expr) -> None:
    """Add up the parts, divide, and write."""
    out = running.out
    if tile.parts > 1:
        with unrolled(tile.rows) as r:
            write(scratch, (r, thread), out[r])
        barrier()
        for part in range(1, tile.parts):
            with when(thread < i32(tile.width)), unrolled(tile.rows) as r:
                write(out, (r,), out[r] + scratch[r, thread + i32(part * tile.width)])
    with unrolled(tile.rows) as r, when(rows.exists(r)):
        token, head = bind(rows.token(r)), bind(rows.head(r))
        share = bind(f32(1.0) / running.norm[r])
        for e in range(tile.elements):
            element = bind(thread + i32(e * tile.width))
            with when(T.And(thread < i32(tile.width), element < i32(tile.value_size))):
                column = head * i32(tile.value_size) + element
                write(rows.out, (token, column), out[r * i32(tile.elements) + i32(e)] * share)
