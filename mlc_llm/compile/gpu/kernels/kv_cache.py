"""The functions with which TVM's paged KV cache moves keys and values.

pages (pages, 2, kv heads, page size, d): [:, 0] holds keys, [:, 1] values. A slot number is
page * page size + place in the page. All of them copy, so that nothing is rounded; signatures and
meaning are those that `vm.builtin.paged_attention_kv_cache_create` expects. A thread copies one
element of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .launch import (
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    i32,
    kernel,
    launch,
    serial,
    size,
    store,
    when,
)

PAGE = 16
"""Tokens of a page, as `mlc_llm.compile.kv_cache` has it."""


def _pages(heads: int, head_dim: int, dtype: str, page_size: Expr = PAGE) -> Buffer:
    return argument("pages", (size(), 2, heads, page_size, head_dim), dtype, view=True)


@contextmanager
def _elements(
    heads: int, head_dim: int, rows: Expr, threads: int
) -> Iterator[tuple[Expr, Expr, Expr]]:
    """A thread for each element of each row's heads: yields row, head and element."""
    with launch([ceil_div(size(heads * head_dim), threads), rows], threads) as (block, thread):
        place = bind(block[0] * i32(threads) + thread)
        with when(place < i32(heads * head_dim)):
            h = bind(T.truncdiv(place, i32(head_dim)))
            yield block[1], h, bind(T.truncmod(place, i32(head_dim)))


def _slot(slot: Expr, page_size: Expr) -> tuple[Expr, Expr]:
    """Page and place in the page."""
    return bind(T.truncdiv(slot, page_size)), bind(T.truncmod(slot, page_size))


@cache
def transpose_append(num_kv_heads: int, head_dim: int, dtype: str, threads: int) -> PrimFunc:
    """Put new keys and values into their slots.

    Arguments of the kernel: pages, k (s, h, d), v (s, h, d), position_map (s,) int32: the slot of a
    token, -1 for none.
    """
    with kernel("kv_cache_transpose_append") as built:
        tokens = size()
        pages = _pages(num_kv_heads, head_dim, dtype)
        k = argument("k", (tokens, num_kv_heads, head_dim), dtype)
        v = argument("v", (tokens, num_kv_heads, head_dim), dtype)
        position_map = argument("position_map", (tokens,), "int32", view=True)
        with (
            _elements(num_kv_heads, head_dim, tokens, threads) as (s, h, i),
            when(position_map[s] >= i32(0)),
        ):
            page, place = _slot(position_map[s], i32(PAGE))
            store(pages, (page, i32(0), h, place, i), k[s, h, i])
            store(pages, (page, i32(1), h, place, i), v[s, h, i])
    return built.get()


@cache
def debug_get_kv(
    num_layers: int, num_kv_heads: int, head_dim: int, dtype: str, threads: int
) -> PrimFunc:
    """Read keys and values back out of their slots.

    Arguments of the kernel: pages, position_map (s,) int32, k (layers, s, h, d),
    v (layers, s, h, d), layer (int64). The page size is taken from the tensor.
    """
    with kernel("kv_cache_debug_get_kv") as built:
        tokens, page_size = size(), size()
        pages = _pages(num_kv_heads, head_dim, dtype, page_size)
        position_map = argument("position_map", (tokens,), "int32", view=True)
        k = argument("k", (num_layers, tokens, num_kv_heads, head_dim), dtype)
        v = argument("v", (num_layers, tokens, num_kv_heads, head_dim), dtype)
        layer = i32(T.arg("layer", T.int64()))
        with _elements(num_kv_heads, head_dim, tokens, threads) as (s, h, i):
            page, place = _slot(position_map[s], page_size)
            store(k, (layer, s, h, i), pages[page, i32(0), h, place, i])
            store(v, (layer, s, h, i), pages[page, i32(1), h, place, i])
    return built.get()


@cache
def copy_single_page(num_kv_heads: int, head_dim: int, dtype: str, threads: int) -> PrimFunc:
    """Copy the first slots of a page to another page.

    Arguments of the kernel: pages, source page, target page, number of slots (all int64).
    """
    with kernel("kv_cache_copy_single_page") as built:
        pages = _pages(num_kv_heads, head_dim, dtype)
        # Scalars keep their names in the shader, where `target` is a reserved word.
        source = i32(T.arg("source_page", T.int64()))
        target = i32(T.arg("target_page", T.int64()))
        length = i32(T.arg("slots", T.int64()))
        with _elements(num_kv_heads, head_dim, length, threads) as (place, h, i):
            for which in (0, 1):
                value = pages[source, i32(which), h, place, i]
                store(pages, (target, i32(which), h, place, i), value)
    return built.get()


@cache
def compact_kv_copy(num_kv_heads: int, head_dim: int, dtype: str, threads: int) -> PrimFunc:
    """Move slots within the cache, one after another: a thread moves its element of all of them.

    Arguments of the kernel: pages, indptr (batch + 1,) int32, positions (2, moves) int32: source
    and target slots, batch (int32).
    """
    with kernel("kv_cache_compact_copy") as built:
        handles = [T.arg(name, T.handle()) for name in ("pages", "indptr", "positions")]
        batch = T.arg("batch", T.int32())
        shape = (size(), i32(2), i32(num_kv_heads), i32(PAGE), i32(head_dim))
        pages = T.match_buffer(handles[0], shape, dtype, elem_offset=T.int32())
        indptr = T.match_buffer(handles[1], (batch + 1,), "int32", elem_offset=T.int32())
        moves = (i32(2), size())
        positions = T.match_buffer(handles[2], moves, "int32", elem_offset=T.int32())
        with (
            _elements(num_kv_heads, head_dim, i32(1), threads) as (_, h, i),
            serial(indptr[batch] - indptr[i32(0)]) as turn,
        ):
            move = bind(indptr[i32(0)] + turn)
            source = _slot(positions[i32(0), move], i32(PAGE))
            target = _slot(positions[i32(1), move], i32(PAGE))
            for which in (0, 1):
                value = pages[source[0], i32(which), h, source[1], i]
                store(pages, (target[0], i32(which), h, target[1], i), value)
    return built.get()
