"""What comes before attention: queries and keys are rotated, keys and values put into their page.

The rotation is that of `mlc_llm.plugin.Rope`. The angle is the float32 product of the position and
the frequency, and the rotation float32, as transformers does it; cos and sin (`sincos.py`) are
computed once for a token and serve all its heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import gcd

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.attention_terms import pair_elements, rotated_elements, turned
from mlc_llm.plugin import PAGE_SIZE, AttentionSpec, Rope

from .attention_source import KEY, VALUE, PageTensor, Tables
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

ElementIndex = Callable[[Expr], tuple[Expr, ...]]
"""Element of a head -> its index in a tensor."""


@cache
def append(spec: AttentionSpec, dtype: str, x_dtype: str) -> PrimFunc:
    """Rotate the queries in place, and put rotated keys and values into the pages.

    Arguments of the kernel: those of `AttentionKernels.append`.

    Args:
        spec: how the layer attends.
        dtype: dtype of the pages.
        x_dtype: dtype of qkv.
    """
    with kernel("attention_append") as built:
        rows = size()
        qkv = argument("qkv", (rows, spec.qkv_width), x_dtype)
        tables = Tables.arguments(rows)
        pages = PageTensor.argument(spec, dtype)

        def append_row(row: Expr) -> None:
            position = bind(tables.position(row))
            page = tables.page_table[tables.sequence(row), T.truncdiv(position, i64(PAGE_SIZE))]
            page, slot = bind(T.Cast("int64", page)), bind(T.truncmod(position, i64(PAGE_SIZE)))
            turn = _Turn.at(position, spec.rope)
            _rotate_queries(turn, qkv, row, spec)
            with serial(spec.kv_heads) as head:
                _append_head(turn, qkv, row, pages, head, page, slot)

        each_token(rows, append_row)
    return built.get()


@cache
def rotate(spec: AttentionSpec, x_dtype: str) -> PrimFunc:
    """Rotate, in place, the queries of a layer that uses the keys and values of another.

    Arguments of the kernel: those of `AttentionKernels.rotate`.

    Args:
        spec: how the layer attends.
        x_dtype: dtype of the queries.
    """
    with kernel("attention_rotate") as built:
        rows = size()
        qkv = argument("qkv", (rows, spec.qkv_width), x_dtype)
        positions = argument("positions", (rows,), "int32", view=True)

        def rotate_row(row: Expr) -> None:
            turn = _Turn.at(bind(T.Cast("int64", positions[row])), spec.rope)
            _rotate_queries(turn, qkv, row, spec)

        each_token(rows, rotate_row)
    return built.get()


def _rotate_queries(turn: _Turn | None, qkv: Buffer, row: Expr, spec: AttentionSpec) -> None:
    """The query heads, which are the first columns."""
    if turn is None:
        return
    with serial(spec.query_heads) as head:
        first = bind(head * spec.key_size)

        def at(element: Expr) -> tuple[Expr, ...]:
            return row, first + element

        turn.rotate(qkv, at, qkv, at)


def _append_head(
    turn: _Turn | None,
    qkv: Buffer,
    row: Expr,
    pages: PageTensor,
    head: Expr,
    page: Expr,
    slot: Expr,
) -> None:
    """The key and the value of one head."""
    spec = pages.spec
    keys = spec.query_heads * spec.key_size
    key = bind(keys + head * spec.key_size)
    value = bind(keys + spec.kv_heads * spec.key_size + head * spec.value_size)

    def column(first: Expr) -> ElementIndex:
        return lambda element: (row, first + element)

    def paged(which: int) -> ElementIndex:
        return lambda element: (page, head, pages.element(which, slot, element))

    if turn is not None:
        turn.rotate(qkv, column(key), pages.tensor, paged(KEY))
    rotated = rotated_elements(spec.rope)
    _copy(qkv, column(key), pages.tensor, paged(KEY), rotated, spec.key_size)
    _copy(qkv, column(value), pages.tensor, paged(VALUE), 0, spec.value_size)


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

    def rotate(self, source: Buffer, at: ElementIndex, out: Buffer, out_at: ElementIndex) -> None:
        """Rotate the pairs of one head."""
        pairs = len(self.rope.frequencies)
        lanes = 1 if self.rope.interleaved else gcd(pairs, _MAX_LANES)
        with serial(pairs // lanes) as j:
            i = bind(j * lanes)
            first, second = pair_elements(self.rope, i)
            c, s = bind(load(self.cos, (i,), lanes)), bind(load(self.sin, (i,), lanes))
            a = bind(load_f32(source, at(first), lanes))
            b = bind(load_f32(source, at(second), lanes))
            for at_out, value in zip((first, second), turned(a, b, c, s), strict=True):
                store_f32(out, out_at(at_out), value, lanes)


def _copy(
    source: Buffer, at: ElementIndex, out: Buffer, out_at: ElementIndex, begin: int, end: int
) -> None:
    """Elements begin .. end - 1 of one head."""
    if begin == end:
        return
    lanes = gcd(end - begin, begin, _MAX_LANES)
    with serial((end - begin) // lanes) as j:
        i = bind(j * lanes + begin)
        store_f32(out, out_at(i), load_f32(source, at(i), lanes), lanes)
