"""New tokens: queries and keys are rotated (`rope.py`), keys and values go into their pages.

A thread makes one element. Where nothing is rotated, elements are copied as they are.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.plugin import AttentionSpec

from .launch import (
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    i32,
    kernel,
    launch,
    load_f32,
    size,
    store,
    when,
)
from .pages import Pages
from .rope import rotate_element


@cache
def append(spec: AttentionSpec, dtype: str, activation_dtype: str, threads: int) -> PrimFunc:
    """`AttentionKernels.append`: splits qkv into q, and the pages' keys and values.

    Arguments of the kernel: qkv (n, qkv_width), the queries' heads, then the keys', then the
    values'; positions (n,), sequences (n,), page_table, pages, q (n, query_heads * key_size).

    Args:
        spec: how the layer attends.
        dtype: dtype of the pages.
        activation_dtype: dtype of qkv and q.
        threads: threads of a workgroup.
    """
    queries = spec.query_heads * spec.key_size
    rotated = queries + spec.kv_heads * spec.key_size
    with kernel("attention_append") as built:
        n = size()
        qkv = argument("qkv", (n, spec.qkv_width), activation_dtype)
        positions = argument("positions", (n,), "int32", view=True)
        sequences = argument("sequences", (n,), "int32", view=True)
        pages = Pages.arguments(spec, dtype)
        q = argument("q", (n, queries), activation_dtype)
        grid = [ceil_div(size(spec.qkv_width), threads), n]
        with launch(grid, threads) as ((block, row), thread):
            column = bind(block * i32(threads) + thread)
            position = bind(positions[row])
            place = pages.find(sequences[row], position)
            with when(column < i32(rotated)):
                turned = bind(_rotated(spec, qkv, row, column, position))
                with when(column < i32(queries)):
                    store(q, (row, column), turned)
                with when(column >= i32(queries)):
                    at = pages.key(place, *_split(column - i32(queries), spec.key_size))
                    store(pages.tensor, at, turned)
            with when(T.And(column >= i32(rotated), column < i32(spec.qkv_width))):
                at = pages.value(place, *_split(column - i32(rotated), spec.value_size))
                store(pages.tensor, at, qkv[row, column])
    return built.get()


@cache
def rotate(spec: AttentionSpec, activation_dtype: str, threads: int) -> PrimFunc:
    """`AttentionKernels.rotate`: the queries of a layer without keys of its own.

    Arguments of the kernel: q (n, query_heads * key_size), positions (n,), turned, of q's shape.

    Args:
        spec: how the layer attends.
        activation_dtype: dtype of the queries.
        threads: threads of a workgroup.
    """
    width = spec.query_heads * spec.key_size
    with kernel("attention_rotate") as built:
        n = size()
        q = argument("q", (n, width), activation_dtype)
        positions = argument("positions", (n,), "int32", view=True)
        turned = argument("turned", (n, width), activation_dtype)
        with launch([ceil_div(size(width), threads), n], threads) as ((block, row), thread):
            column = bind(block * i32(threads) + thread)
            with when(column < i32(width)):
                value = _rotated(spec, q, row, column, positions[row])
                store(turned, (row, column), value)
    return built.get()


def _rotated(spec: AttentionSpec, x: Buffer, row: Expr, column: Expr, position: Expr) -> Expr:
    """The rotated element of a column of x, whose rows are heads side by side."""
    _, i = _split(column, spec.key_size)
    head = bind(column - i)
    return rotate_element(
        spec.rope, lambda i: load_f32(x, (row, head + i)), i, position, spec.key_size
    )


def _split(column: Expr, head_size: int) -> tuple[Expr, Expr]:
    """Head and element of a column."""
    column = bind(column)
    return bind(T.truncdiv(column, i32(head_size))), bind(T.truncmod(column, i32(head_size)))
