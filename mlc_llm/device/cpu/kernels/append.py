"""What comes before attention: queries and keys are rotated, keys and values put into their page.

For pair (a, b) of a head at position p, with the angle p f of `mlc_llm.plugin.Rope`:

    a' = a cos(p f) - b sin(p f)
    b' = b cos(p f) + a sin(p f)

The angle is the float32 product of p and f, and the rotation float32, as transformers does it; cos
and sin (`sincos.py`) are computed once for a token and serve all its heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import gcd

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.plugin import PAGE_SIZE, AttentionSpec, Rope

from .attention_source import KEY, VALUE, Pages, Tables
from .sincos import sin_cos
from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    each_token,
    f32,
    i64,
    kernel,
    load,
    load_f32,
    scratch,
    serial,
    size,
    splat,
    store,
    store_f32,
)

_MAX_LANES = 16  # LLVM splits vectors that are wider than the CPU's

Place = Callable[[Expr], tuple[Expr, ...]]
"""Element of a head -> its index in a tensor."""


@cache
def append(spec: AttentionSpec, dtype: str, x_dtype: str) -> PrimFunc:
    """Rotate the queries, and put rotated keys and values into the pages.

    Arguments of the kernel: those of `AttentionKernels.append`.

    Args:
        spec: how the layer attends.
        dtype: dtype of the pages.
        x_dtype: dtype of qkv and q.
    """
    with kernel("attention_append") as built:
        rows = size()
        qkv = argument("qkv", (rows, spec.qkv_width), x_dtype)
        tables = Tables.arguments(rows)
        pages = Pages.argument(spec, dtype)
        q = argument("q", (rows, spec.query_heads * spec.key_size), x_dtype)

        def append_row(row: Expr) -> None:
            position = bind(tables.position(row))
            page = tables.page_table[tables.sequence(row), T.truncdiv(position, i64(PAGE_SIZE))]
            page, slot = bind(T.Cast("int64", page)), bind(T.truncmod(position, i64(PAGE_SIZE)))
            turn = _Turn.at(position, spec.rope)
            _queries(turn, qkv, q, row, spec)
            keys = bind(i64(spec.query_heads * spec.key_size))
            values = bind(keys + spec.kv_heads * spec.key_size)

            def paged(which: int, head: Expr) -> Place:
                return lambda e: (page, head, pages.element(which, slot, e))

            with serial(spec.kv_heads) as head:
                key = bind(keys + head * spec.key_size)
                value = bind(values + head * spec.value_size)
                _turned(
                    turn,
                    qkv,
                    lambda e: (row, key + e),
                    pages.pages,
                    paged(KEY, head),
                    spec.key_size,
                )
                source = (lambda e: (row, value + e), paged(VALUE, head))
                _copy(qkv, source[0], pages.pages, source[1], 0, spec.value_size)

        each_token(rows, append_row)
    return built.get()


@cache
def rotate(spec: AttentionSpec, x_dtype: str) -> PrimFunc:
    """Rotate the queries of a layer that uses the keys and values of another.

    Arguments of the kernel: those of `AttentionKernels.rotate`.

    Args:
        spec: how the layer attends.
        x_dtype: dtype of the queries.
    """
    with kernel("attention_rotate") as built:
        rows, width = size(), spec.query_heads * spec.key_size
        x = argument("x", (rows, width), x_dtype)
        positions = argument("positions", (rows,), "int32", view=True)
        q = argument("q", (rows, width), x_dtype)

        def rotate_row(row: Expr) -> None:
            turn = _Turn.at(bind(T.Cast("int64", positions[row])), spec.rope)
            _queries(turn, x, q, row, spec)

        each_token(rows, rotate_row)
    return built.get()


@dataclass(frozen=True)
class _Turn:
    """The rotation at one position: cosine and sine of every pair, in working memory."""

    rope: Rope
    cos: Buffer
    sin: Buffer

    @staticmethod
    def at(position: Expr, rope: Rope | None) -> _Turn | None:
        """Emit them. The table of frequencies is a row of constants in the code."""
        if rope is None:
            return None
        pairs = len(rope.frequencies)
        frequency, cos, sin = (scratch((pairs,)) for _ in range(3))
        for i, f in enumerate(rope.frequencies):
            T.buffer_store(frequency, f32(f), [i64(i)])
        position = bind(T.Cast("float32", position))
        lanes = gcd(pairs, _MAX_LANES)
        with serial(pairs // lanes) as j:
            i = bind(j * lanes)
            angle = bind(splat(position, lanes) * load(frequency, (i,), lanes))
            sine, cosine = sin_cos(angle, lanes)
            store(cos, (i,), cosine * splat(f32(rope.factor), lanes), lanes)
            store(sin, (i,), sine * splat(f32(rope.factor), lanes), lanes)
        return _Turn(rope, cos, sin)

    def rotate(self, source: Buffer, at: Place, out: Buffer, out_at: Place) -> None:
        """Rotate the pairs of one head."""
        pairs, interleaved = len(self.rope.frequencies), self.rope.interleaved
        lanes = 1 if interleaved else gcd(pairs, _MAX_LANES)
        with serial(pairs // lanes) as j:
            i = bind(j * lanes)
            first, second = (i * 2, i * 2 + 1) if interleaved else (i, i + pairs)
            c, s = bind(load(self.cos, (i,), lanes)), bind(load(self.sin, (i,), lanes))
            a = bind(load_f32(source, at(first), lanes))
            b = bind(load_f32(source, at(second), lanes))
            store_f32(out, out_at(first), a * c - b * s, lanes)
            store_f32(out, out_at(second), b * c + a * s, lanes)


def _queries(turn: _Turn | None, x: Buffer, q: Buffer, row: Expr, spec: AttentionSpec) -> None:
    """The query heads, which are the first columns of x."""
    with serial(spec.query_heads) as head:
        first = bind(head * spec.key_size)

        def at(element: Expr) -> tuple[Expr, ...]:
            return row, first + element

        _turned(turn, x, at, q, at, spec.key_size)


def _turned(
    turn: _Turn | None, source: Buffer, at: Place, out: Buffer, out_at: Place, d: int
) -> None:
    """One head of d elements: the first ones rotated, the others as they are."""
    rotated = 0
    if turn is not None:
        turn.rotate(source, at, out, out_at)
        rotated = 2 * len(turn.rope.frequencies)
    _copy(source, at, out, out_at, rotated, d)


def _copy(source: Buffer, at: Place, out: Buffer, out_at: Place, begin: int, end: int) -> None:
    """Elements begin .. end - 1 of one head."""
    if begin == end:
        return
    lanes = gcd(end - begin, begin, _MAX_LANES)
    with serial((end - begin) // lanes) as j:
        i = bind(j * lanes + begin)
        store_f32(out, out_at(i), load_f32(source, at(i), lanes), lanes)
