"""The functions with which TVM's paged KV cache moves keys and values.

pages (pages, 2, kv heads, page size, d): [:, 0] holds keys, [:, 1] values. A slot number is
page * page size + place in the page. All of them copy, so that nothing is rounded; signatures and
meaning are those that `vm.builtin.paged_attention_kv_cache_create` expects.
"""

from __future__ import annotations

from functools import cache
from math import gcd

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    each_token,
    i64,
    kernel,
    load,
    serial,
    size,
    store,
    when,
)

_LANES = 16  # LLVM splits vectors that are wider than the CPU's


def _copy(
    source: Buffer, source_at: tuple[Expr, ...], out: Buffer, out_at: tuple[Expr, ...], d: int
) -> None:
    """Copy the d elements of one head."""
    lanes = gcd(d, _LANES)
    with serial(d // lanes) as j:
        value = load(source, (*source_at, j * lanes), lanes)
        store(out, (*out_at, j * lanes), value, lanes)


def _slot(slot: Expr, page_size: Expr) -> tuple[Expr, Expr]:
    """Page and place in the page."""
    slot = bind(T.Cast("int64", slot))
    return bind(T.truncdiv(slot, page_size)), bind(T.truncmod(slot, page_size))


@cache
def transpose_append(num_kv_heads: int, head_dim: int, dtype: str, page_size: int = 16) -> PrimFunc:
    """Put new keys and values into their slots.

    Arguments of the kernel: pages, k (s, h, d), v (s, h, d), position_map (s,) int32: the slot of a
    token, -1 for none.
    """
    with kernel("kv_cache_transpose_append") as built:
        tokens, pages_ = size(), size()
        shape = (pages_, 2, num_kv_heads, page_size, head_dim)
        pages = argument("pages", shape, dtype, view=True)
        k = argument("k", (tokens, num_kv_heads, head_dim), dtype)
        v = argument("v", (tokens, num_kv_heads, head_dim), dtype)
        position_map = argument("position_map", (tokens,), "int32", view=True)

        def append_token(s: Expr) -> None:
            with when(position_map[s] >= 0):
                page, place = _slot(position_map[s], i64(page_size))
                with serial(num_kv_heads) as h:
                    _copy(k, (s, h), pages, (page, i64(0), h, place), head_dim)
                    _copy(v, (s, h), pages, (page, i64(1), h, place), head_dim)

        each_token(tokens, append_token)
    return built.get()


@cache
def debug_get_kv(num_layers: int, num_kv_heads: int, head_dim: int, dtype: str) -> PrimFunc:
    """Read keys and values back out of their slots.

    Arguments of the kernel: pages, position_map (s,) int32, k (layers, s, h, d),
    v (layers, s, h, d), layer (int64). The page size is taken from the tensor.
    """
    with kernel("kv_cache_debug_get_kv") as built:
        tokens, pages_, page_size = size(), size(), size()
        shape = (pages_, 2, num_kv_heads, page_size, head_dim)
        pages = argument("pages", shape, dtype, view=True)
        position_map = argument("position_map", (tokens,), "int32", view=True)
        k = argument("k", (num_layers, tokens, num_kv_heads, head_dim), dtype)
        v = argument("v", (num_layers, tokens, num_kv_heads, head_dim), dtype)
        layer = T.arg("layer", T.int64())
        with serial(tokens) as s:
            page, place = _slot(position_map[s], page_size)
            with serial(num_kv_heads) as h:
                _copy(pages, (page, i64(0), h, place), k, (layer, s, h), head_dim)
                _copy(pages, (page, i64(1), h, place), v, (layer, s, h), head_dim)
    return built.get()


@cache
def copy_single_page(num_kv_heads: int, head_dim: int, dtype: str, page_size: int = 16) -> PrimFunc:
    """Copy the first slots of a page to another page.

    Arguments of the kernel: pages, source page, target page, number of slots (all int64).
    """
    with kernel("kv_cache_copy_single_page") as built:
        shape = (size(), 2, num_kv_heads, page_size, head_dim)
        pages = argument("pages", shape, dtype, view=True)
        source = T.arg("source", T.int64())
        target = T.arg("target", T.int64())
        length = T.arg("length", T.int64())
        with serial(2) as which, serial(num_kv_heads) as h, serial(length) as place:
            at = (which, h, place)
            _copy(pages, (source, *at), pages, (target, *at), head_dim)
    return built.get()


@cache
def compact_kv_copy(num_kv_heads: int, head_dim: int, dtype: str, page_size: int = 16) -> PrimFunc:
    """Move slots within the cache, one after another.

    Arguments of the kernel: pages, indptr (batch + 1,) int32, positions (2, moves) int32: source
    and target slots, batch (int32).
    """
    with kernel("kv_cache_compact_copy") as built:
        pages_handle, indptr_handle = T.arg("pages", T.handle()), T.arg("indptr", T.handle())
        positions_handle, batch = T.arg("positions", T.handle()), T.arg("batch", T.int32())
        shape = (size(), 2, num_kv_heads, page_size, head_dim)
        pages = T.match_buffer(pages_handle, shape, dtype, elem_offset=T.int64())
        indptr = T.match_buffer(indptr_handle, (batch + 1,), "int32", elem_offset=T.int64())
        positions = T.match_buffer(positions_handle, (2, size()), "int32", elem_offset=T.int64())
        last = bind(T.Cast("int64", indptr[T.Cast("int64", batch)]))
        first = bind(T.Cast("int64", indptr[i64(0)]))
        with serial(last - first) as i:
            move = bind(first + i)
            source = _slot(positions[i64(0), move], i64(page_size))
            target = _slot(positions[i64(1), move], i64(page_size))
            with serial(2) as which, serial(num_kv_heads) as h:
                begin = (source[0], which, h, source[1])
                _copy(pages, begin, pages, (target[0], which, h, target[1]), head_dim)
    return built.get()
