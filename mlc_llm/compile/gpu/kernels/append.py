"""New tokens: queries and keys are rotated (`rope.py`), keys and values go into their pages.

Queries are rotated where they are, so a thread makes both elements of a pair. What is not rotated
stays as it is, or is copied, an element a thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.attention_terms import pair_elements, rotated_elements
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
    when,
    write,
)
from .pages import Pages, PageSlot
from .rope import rotate_pair


@cache
def append(spec: AttentionSpec, dtype: str, activation_dtype: str, threads: int) -> PrimFunc:
    """`AttentionKernels.append`: rotates the queries in qkv, and puts keys and values into pages.

    Arguments of the kernel: qkv (n, qkv_width), the queries' heads, then the keys', then the
    values'; positions (n,), sequences (n,), page_table, pages.

    Args:
        spec: how the layer attends.
        dtype: dtype of the pages.
        activation_dtype: dtype of qkv.
        threads: threads of a workgroup.
    """
    turned = (spec.query_heads + spec.kv_heads) * _pairs(spec)
    tasks = turned + spec.kv_heads * (_unturned(spec) + spec.value_size)
    with kernel("attention_append") as built:
        n = size()
        qkv = argument("qkv", (n, spec.qkv_width), activation_dtype)
        positions = argument("positions", (n,), "int32", view=True)
        sequences = argument("sequences", (n,), "int32", view=True)
        pages = Pages.arguments(spec, dtype)
        with launch([ceil_div(size(tasks), threads), n], threads) as ((block, row), thread):
            task = bind(block * i32(threads) + thread)
            position = bind(positions[row])
            place = pages.find(sequences[row], position)
            _rotate(spec, qkv, row, position, task, (pages, place))
            _copy(spec, qkv, row, bind(task - i32(turned)), (pages, place))
    return built.get()


@cache
def rotate(spec: AttentionSpec, activation_dtype: str, threads: int) -> PrimFunc:
    """`AttentionKernels.rotate`: the queries of a layer without keys of its own.

    Arguments of the kernel: qkv (n, qkv_width), positions (n,).

    Args:
        spec: how the layer attends.
        activation_dtype: dtype of qkv.
        threads: threads of a workgroup.
    """
    tasks = spec.query_heads * _pairs(spec)
    with kernel("attention_rotate") as built:
        n = size()
        qkv = argument("qkv", (n, spec.qkv_width), activation_dtype)
        positions = argument("positions", (n,), "int32", view=True)
        with launch([ceil_div(size(tasks), threads), n], threads) as ((block, row), thread):
            task = bind(block * i32(threads) + thread)
            _rotate(spec, qkv, row, positions[row], task)
    return built.get()


def _pairs(spec: AttentionSpec) -> int:
    """Pairs of a head that are rotated."""
    return rotated_elements(spec.rope) // 2


def _unturned(spec: AttentionSpec) -> int:
    """Elements of a key that are not rotated, its last."""
    return spec.key_size - rotated_elements(spec.rope)


def _rotate(
    spec: AttentionSpec,
    qkv: Buffer,
    row: Expr,
    position: Expr,
    task: Expr,
    own: tuple[Pages, PageSlot] | None = None,
) -> None:
    """One pair of a row's queries, or of its keys where the layer has pages of its own."""
    if spec.rope is None:
        return
    heads = spec.query_heads + (0 if own is None else spec.kv_heads)
    with _task(task, heads, _pairs(spec)) as (head, pair):
        first, second = pair_elements(spec.rope, pair)
        # A pair's first element may be the pair's own number, which is bound.
        elements = (bind(first) if spec.rope.interleaved else first, bind(second))
        columns = [bind(head * i32(spec.key_size) + i) for i in elements]
        a, b = (load_f32(qkv, (row, column)) for column in columns)
        turned = rotate_pair(spec.rope, pair, a, b, position)
        key_head = head - i32(spec.query_heads)
        with when(key_head < i32(0)):
            for column, value in zip(columns, turned, strict=True):
                write(qkv, (row, column), value)
        if own is not None:
            pages, place = own
            with when(key_head >= i32(0)):
                for i, value in zip(elements, turned, strict=True):
                    write(pages.tensor, pages.key(place, key_head, i), value)


def _copy(
    spec: AttentionSpec, qkv: Buffer, row: Expr, task: Expr, own: tuple[Pages, PageSlot]
) -> None:
    """One element of a row's keys that is not rotated, or of its values."""
    (pages, place), unturned = own, _unturned(spec)
    keys = spec.query_heads * spec.key_size
    values = keys + spec.kv_heads * spec.key_size
    if unturned:
        with _task(task, spec.kv_heads, unturned) as (head, i):
            element = bind(i + i32(spec.key_size - unturned))
            column = i32(keys) + head * i32(spec.key_size) + element
            write(pages.tensor, pages.key(place, head, element), qkv[row, column])
    task = bind(task - i32(spec.kv_heads * unturned))
    with _task(task, spec.kv_heads, spec.value_size) as (head, i):
        column = i32(values) + head * i32(spec.value_size) + i
        write(pages.tensor, pages.value(place, head, i), qkv[row, column])


@contextmanager
def _task(task: Expr, heads: int, elements: int) -> Iterator[tuple[Expr, Expr]]:
    """A block for the first tasks, one for each element of some heads: yields head and element."""
    with when(T.And(task >= i32(0), task < i32(heads * elements))):
        yield bind(T.truncdiv(task, i32(elements))), bind(T.truncmod(task, i32(elements)))
