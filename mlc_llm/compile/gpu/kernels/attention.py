"""Attention over TVM's paged KV cache: one token (decode), many tokens (prefill), and the merge.

The arguments are those with which TVM's cache calls its TIR backend (attn_backend.h). Keys are
rotated before they are stored, so `rotary_mode`, the rope scale and the rope theta are ignored.
What a workgroup computes is the same for one token and for many: see `attention_tile.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .attention_source import PagedSource, PageTable, RaggedSource, Source, Visibility
from .attention_tile import MOST_ROWS, Queries, Tile, attend
from .kv_cache import PAGE
from .launch import (
    Buffer,
    Expr,
    argument,
    barrier,
    bind,
    ceil_div,
    i32,
    kernel,
    launch,
    load_f32,
    registers,
    size,
    store,
    strided,
    when,
)


@dataclass(frozen=True)
class Geometry:
    """What the kernels are made for.

    Args:
        kv_heads: heads of keys and values.
        q_heads: heads of queries, a multiple of that.
        head_dim: elements of a head.
        dtype: dtype of queries, keys, values and outputs.
        window: positions of a sliding window, or None.
        sink: first positions that are seen whatever the window.
    """

    kv_heads: int
    q_heads: int
    head_dim: int
    dtype: str
    window: int | None = None
    sink: int = 0

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.q_heads // self.kv_heads


def _build(
    name: str, geometry: Geometry, tile: Tile, declare: Callable[[Expr, Expr], _Launch]
) -> PrimFunc:
    """A kernel of what `declare` takes as arguments."""
    with kernel(name) as built:
        batch, tokens = size(), size()
        call = declare(batch, tokens)
        grid = [ceil_div(call.rows, tile.rows), batch * i32(geometry.kv_heads)]
        with launch(grid, tile.threads) as ((place, task), thread):
            b = bind(T.truncdiv(task, i32(geometry.kv_heads)))
            h = bind(T.truncmod(task, i32(geometry.kv_heads)))
            first, count = call.span(b)
            tensors = (call.q, call.out, call.lse)
            head = bind(h * i32(geometry.group))
            queries = Queries(*tensors, b, first, count, head, geometry.group, place, tile.rows)
            attend(queries, call.source(b, h), call.mask, tile, call.sm_scale, thread)
    return built.get()


@dataclass(frozen=True)
class _Launch:
    """The declared arguments of a kernel.

    Args:
        rows: rows of all sequences, at most.
        span: a sequence to its first query and their number.
        source: a sequence and a head to its keys.
    """

    q: Buffer
    out: Buffer
    lse: Buffer
    rows: Expr
    span: Callable[[Expr], tuple[Expr, Expr]]
    source: Callable[[Expr, Expr], Source]
    mask: Visibility
    sm_scale: Expr


@cache
def decode(geometry: Geometry, threads: int, memory: int) -> PrimFunc:
    """One query a sequence, all keys in the cache.

    Arguments of the kernel: q (b, hq, d), pages (n, 2, hkv, page, d), page_indptr (b + 1,),
    page_values (nnz,), length_info (b,), k_rope_pos_offset (b,), q_rope_position (b,),
    out (b, hq, d), lse (b, hq) float32, rotary_mode, rope_scale, rope_theta, sm_scale.

    Args:
        geometry: heads, dtype and window.
        threads: threads of a workgroup, a power of two.
        memory: bytes of its memory.
    """
    g = geometry
    tile = Tile.fitting(g.group, threads, g.head_dim, memory)

    def declare(batch: Expr, _tokens: Expr) -> _Launch:
        q = argument("q", (batch, g.q_heads, g.head_dim), g.dtype)
        table = _page_table(g, batch)
        offset = argument("k_rope_pos_offset", (batch,), "int32", view=True)
        position = argument("q_rope_position", (batch,), "int32", view=True)
        out, lse = _outputs(g, batch)
        return _Launch(
            *(q, out, lse, i32(g.group)),
            span=lambda b: (b, i32(1)),
            source=lambda b, h: PagedSource(table, b, h),
            mask=Visibility(g.window, g.sink, offset, position),
            sm_scale=_scalars(),
        )

    return _build("attention_decode", g, tile, declare)


@cache
def prefill_paged(geometry: Geometry, threads: int, memory: int) -> PrimFunc:
    """Many queries a sequence over the keys that were in the cache before them.

    Arguments of the kernel: q (s, hq, d), q_indptr (b + 1,), pages, page_indptr, page_values,
    length_info, k_rope_pos_offset (b,), q_rope_position (s,), out (s, hq, d), lse (s, hq) float32,
    causal, rotary_mode, rope_scale, rope_theta, sm_scale.

    With a window every key of the cache precedes the queries and `causal` says nothing.
    """
    g = geometry
    tile = Tile.fitting(MOST_ROWS, threads, g.head_dim, memory)

    def declare(batch: Expr, tokens: Expr) -> _Launch:
        q = argument("q", (tokens, g.q_heads, g.head_dim), g.dtype)
        indptr = argument("q_indptr", (batch + 1,), "int32", view=True)
        table = _page_table(g, batch)
        offset = argument("k_rope_pos_offset", (batch,), "int32", view=True)
        position = argument("q_rope_position", (tokens,), "int32", view=True)
        out, lse = _outputs(g, tokens)
        causal = T.arg("causal", T.int32())
        flag = causal if g.window is None else None
        return _Launch(
            *(q, out, lse, tokens * i32(g.group)),
            span=lambda b: _span(indptr, b),
            source=lambda b, h: PagedSource(table, b, h),
            mask=Visibility(g.window, g.sink, offset, position, flag),
            sm_scale=_scalars(),
        )

    return _build("attention_prefill_paged", g, tile, declare)


@cache
def prefill_ragged(geometry: Geometry, threads: int, memory: int) -> PrimFunc:
    """Many queries a sequence over the keys that came with them.

    Arguments of the kernel: q (s, hq, d), q_indptr (b + 1,), k (t, hkv, d), v (t, hkv, d),
    kv_indptr (b + 1,), q_rope_position (s,), k_rope_pos_offset (b,), out (s, hq, d),
    lse (s, hq) float32, causal, rotary_mode, rope_scale, rope_theta, sm_scale.
    """
    g = geometry
    tile = Tile.fitting(MOST_ROWS, threads, g.head_dim, memory)

    def declare(batch: Expr, tokens: Expr) -> _Launch:
        keys = size()
        q = argument("q", (tokens, g.q_heads, g.head_dim), g.dtype)
        indptr = argument("q_indptr", (batch + 1,), "int32", view=True)
        k = argument("k", (keys, g.kv_heads, g.head_dim), g.dtype)
        v = argument("v", (keys, g.kv_heads, g.head_dim), g.dtype)
        kv_indptr = argument("kv_indptr", (batch + 1,), "int32", view=True)
        position = argument("q_rope_position", (tokens,), "int32", view=True)
        offset = argument("k_rope_pos_offset", (batch,), "int32", view=True)
        out, lse = _outputs(g, tokens)
        causal = T.arg("causal", T.int32())
        return _Launch(
            *(q, out, lse, tokens * i32(g.group)),
            span=lambda b: _span(indptr, b),
            source=lambda b, h: RaggedSource(k, v, kv_indptr, b, h),
            mask=Visibility(g.window, g.sink, offset, position, causal),
            sm_scale=_scalars(),
        )

    return _build("attention_prefill_ragged", g, tile, declare)


def _page_table(geometry: Geometry, batch: Expr) -> PageTable:
    shape = (size(), 2, geometry.kv_heads, PAGE, geometry.head_dim)
    return PageTable.arguments(argument("pages", shape, geometry.dtype), batch)


def _outputs(geometry: Geometry, tokens: Expr) -> tuple[Buffer, Buffer]:
    shape = (tokens, geometry.q_heads)
    return argument("out", (*shape, geometry.head_dim), geometry.dtype), argument("lse", shape)


def _span(indptr: Buffer, b: Expr) -> tuple[Expr, Expr]:
    first = bind(indptr[b])
    return first, bind(indptr[b + i32(1)] - first)


def _scalars() -> Expr:
    """The scalar arguments that every attention kernel ends with; the last is sm_scale."""
    T.arg("rotary_mode", T.int32())
    T.arg("rope_scale", T.float32())
    T.arg("rope_theta", T.float32())
    return T.arg("sm_scale", T.float32())


@cache
def merge_state(num_q_heads: int, head_dim: int, dtype: str, threads: int) -> PrimFunc:
    """Join the results over two disjoint sets of keys, in place; a workgroup for each head.

    Arguments of the kernel: out (s, h, d), lse (s, h), other (s, h, d), other_lse (s, h). With
    weights 2^lse, out becomes the weighted mean and lse the log2 of their sum.
    """
    with kernel("attention_merge_state") as built:
        tokens = size()
        out = argument("out", (tokens, num_q_heads, head_dim), dtype)
        lse = argument("lse", (tokens, num_q_heads))
        other = argument("other", (tokens, num_q_heads, head_dim), dtype)
        other_lse = argument("other_lse", (tokens, num_q_heads))
        with launch([size(num_q_heads), tokens], threads) as ((h, s), thread):
            # Held by each thread before one of them replaces the first.
            held = registers((2,))
            store(held, (i32(0),), lse[s, h])
            store(held, (i32(1),), other_lse[s, h])
            barrier()
            top = bind(T.max(held[i32(0)], held[i32(1)]))
            mine, theirs = (bind(T.exp2(held[i32(i)] - top)) for i in (0, 1))
            total = bind(mine + theirs)
            with strided(thread, size(head_dim), threads) as i:
                value = load_f32(out, (s, h, i)) * mine + load_f32(other, (s, h, i)) * theirs
                store(out, (s, h, i), value / total)
            with when(thread == i32(0)):
                store(lse, (s, h), T.log2(total) + top)
    return built.get()
