"""Attention over TVM's paged KV cache: one token (decode), many tokens (prefill), and the merge.

    out = sum over visible keys j of softmax_j(sm_scale q . k_j) v_j
    lse = log2 of the sum over visible keys of 2^(sm_scale log2(e) q . k_j)

The arguments are those with which TVM's cache calls its TIR backend (attn_backend.h): tensors that
the cache packs together are views. Keys are rotated before they are stored, so `rotary_mode`, the
rope scale and the rope theta are ignored. A sequence without visible keys gives out = 0 and
lse = -5e4, which the merge weighs with 0.

Arithmetic is float32 whatever `dtype` is; the running maximum makes any score safe. Error: 2e-6 of
max |v|, and the rounding to `dtype`.

Sliding windows are masks. With `window` a query at position p sees the keys at positions
p - window < j <= p, and those of the first `sink` positions; the cache keeps every key, and chunks
of keys before the window are skipped where there is no sink. Positions are q_rope_position of the
query, and k_rope_pos_offset + index of the key.
"""

from __future__ import annotations

from functools import cache
from math import gcd

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .attention_decode import PIECE, attend_piece, write_piece
from .attention_pieces import Pieces, join_pieces
from .attention_prefill import attend_many
from .attention_source import Mask, PagedKeys, RaggedKeys, Spans
from .isa import Isa
from .vector import (
    Expr,
    argument,
    bind,
    exp2_nonpositive,
    f32,
    i64,
    kernel,
    load_f32,
    parallel,
    scratch,
    serial,
    size,
    splat,
    store_f32,
    when,
)


@cache
def decode(
    num_kv_heads: int,
    num_q_heads: int,
    head_dim: int,
    dtype: str,
    isa: Isa,
    page_size: int = 16,
    window: int | None = None,
    sink: int = 0,
) -> PrimFunc:
    """One query a sequence, all keys in the cache.

    Arguments of the kernel: q (b, hq, d), pages (n, 2, hkv, page, d), page_indptr (b + 1,),
    page_values (nnz,), length_info (b,), k_rope_pos_offset (b,), q_rope_position (b,),
    out (b, hq, d), lse (b, hq) float32, rotary_mode, rope_scale, rope_theta, sm_scale.
    """
    with kernel("attention_decode") as built:
        batch = size()
        q = argument("q", (batch, num_q_heads, head_dim), dtype)
        pages = argument("pages", (size(), 2, num_kv_heads, page_size, head_dim), dtype)
        keys = PagedKeys.arguments(pages, batch)
        k_offset = argument("k_rope_pos_offset", (batch,), "int32", view=True)
        q_position = argument("q_rope_position", (batch,), "int32", view=True)
        out = argument("out", (batch, num_q_heads, head_dim), dtype)
        lse = argument("lse", (batch, num_q_heads))
        sm_scale = _scalars()
        group, lanes = num_q_heads // num_kv_heads, gcd(head_dim, isa.lanes)

        def spans(b: Expr) -> tuple[Mask, Expr, Spans]:
            mask = Mask(window, sink, k_offset[b])
            first = mask.first(q_position[b])
            return mask, first, mask.spans(first, keys.length(b), PIECE)

        pieces = Pieces.count(batch, lambda b: spans(b)[2].count)
        # Memory is allocated before the count is known: as many as the pages could make.
        rows = batch + T.truncdiv(keys.values.shape[0] * i64(page_size), i64(PIECE))
        parts = scratch((rows, num_q_heads, head_dim))
        parts_lse = scratch((rows, num_q_heads))
        with parallel(pieces.total * num_kv_heads) as task:
            item = bind(T.truncdiv(task, i64(num_kv_heads)))
            h = bind(T.truncmod(task, i64(num_kv_heads)))
            b = pieces.sequence(item)
            mask, first, of_b = spans(b)
            begin = bind(of_b.first(item - pieces.starts[b]))
            source = keys.of(b, h)
            piece = attend_piece(q, b, h, group, source, mask, first, begin, sm_scale, isa)
            with when(pieces.alone(b)):
                write_piece(piece, out, lse, b, bind(h * group))
            with when(T.Not(pieces.alone(b))):
                write_piece(piece, parts, parts_lse, item, bind(h * group))
        with when(pieces.several):
            join_pieces(pieces, parts, parts_lse, out, lse, lanes)
    return built.get()


@cache
def prefill_paged(
    num_kv_heads: int,
    num_q_heads: int,
    head_dim: int,
    dtype: str,
    isa: Isa,
    page_size: int = 16,
    window: int | None = None,
    sink: int = 0,
) -> PrimFunc:
    """Many queries a sequence over the keys that were in the cache before them.

    Arguments of the kernel: q (s, hq, d), q_indptr (b + 1,), pages, page_indptr, page_values,
    length_info, k_rope_pos_offset (b,), q_rope_position (s,), out (s, hq, d), lse (s, hq) float32,
    causal, rotary_mode, rope_scale, rope_theta, sm_scale.

    With `window` every key of the cache precedes the queries and `causal` says nothing.
    """
    with kernel("attention_prefill_paged") as built:
        batch, tokens = size(), size()
        q = argument("q", (tokens, num_q_heads, head_dim), dtype)
        q_indptr = argument("q_indptr", (batch + 1,), "int32", view=True)
        pages = argument("pages", (size(), 2, num_kv_heads, page_size, head_dim), dtype)
        keys = PagedKeys.arguments(pages, batch)
        k_offset = argument("k_rope_pos_offset", (batch,), "int32", view=True)
        q_position = argument("q_rope_position", (tokens,), "int32", view=True)
        out = argument("out", (tokens, num_q_heads, head_dim), dtype)
        lse = argument("lse", (tokens, num_q_heads))
        causal = T.arg("causal", T.int32())
        sm_scale = _scalars()
        with serial(batch) as b:
            mask = Mask(window, sink, k_offset[b], i64(0) if window else causal)
            attend_many(q, q_indptr, keys, mask, q_position, out, lse, b, sm_scale, isa)
    return built.get()


@cache
def prefill_ragged(
    num_kv_heads: int,
    num_q_heads: int,
    head_dim: int,
    dtype: str,
    isa: Isa,
    window: int | None = None,
    sink: int = 0,
) -> PrimFunc:
    """Many queries a sequence over the keys that came with them.

    Arguments of the kernel: q (s, hq, d), q_indptr (b + 1,), k (t, hkv, d), v (t, hkv, d),
    kv_indptr (b + 1,), q_rope_position (s,), k_rope_pos_offset (b,), out (s, hq, d),
    lse (s, hq) float32, causal, rotary_mode, rope_scale, rope_theta, sm_scale.
    """
    with kernel("attention_prefill_ragged") as built:
        batch, tokens, key_tokens = size(), size(), size()
        q = argument("q", (tokens, num_q_heads, head_dim), dtype)
        q_indptr = argument("q_indptr", (batch + 1,), "int32", view=True)
        k = argument("k", (key_tokens, num_kv_heads, head_dim), dtype)
        v = argument("v", (key_tokens, num_kv_heads, head_dim), dtype)
        kv_indptr = argument("kv_indptr", (batch + 1,), "int32", view=True)
        q_position = argument("q_rope_position", (tokens,), "int32", view=True)
        k_offset = argument("k_rope_pos_offset", (batch,), "int32", view=True)
        out = argument("out", (tokens, num_q_heads, head_dim), dtype)
        lse = argument("lse", (tokens, num_q_heads))
        causal = T.arg("causal", T.int32())
        sm_scale = _scalars()
        keys = RaggedKeys(k, v, kv_indptr)
        with serial(batch) as b:
            mask = Mask(window, sink, k_offset[b], causal)
            attend_many(q, q_indptr, keys, mask, q_position, out, lse, b, sm_scale, isa)
    return built.get()


def _scalars() -> T.Var:
    """The scalar arguments that every attention kernel ends with; the last is sm_scale."""
    T.arg("rotary_mode", T.int32())
    T.arg("rope_scale", T.float32())
    T.arg("rope_theta", T.float32())
    return T.arg("sm_scale", T.float32())


@cache
def merge_state(num_q_heads: int, head_dim: int, dtype: str) -> PrimFunc:
    """Join the results over two disjoint sets of keys, in place.

    Arguments of the kernel: out (s, h, d), lse (s, h), other (s, h, d), other_lse (s, h). With
    weights 2^lse, out becomes the weighted mean and lse the log2 of their sum.
    """
    lanes = gcd(head_dim, 16)
    with kernel("attention_merge_state") as built:
        tokens = size()
        out = argument("out", (tokens, num_q_heads, head_dim), dtype)
        lse = argument("lse", (tokens, num_q_heads))
        other = argument("other", (tokens, num_q_heads, head_dim), dtype)
        other_lse = argument("other_lse", (tokens, num_q_heads))
        with parallel(tokens) as s, serial(num_q_heads) as h:
            mine, theirs = bind(lse[s, h]), bind(other_lse[s, h])
            top = bind(T.max(mine, theirs))
            # Of the two weights 2^(lse - top), one is 1.
            less = exp2_nonpositive(T.min(mine, theirs) - top, 1)
            total = bind(f32(1) + less)
            large, small = bind(f32(1) / total), bind(less / total)
            weights = [
                bind(splat(bind(T.Select(first, large, small)), lanes))
                for first in (mine >= theirs, mine < theirs)
            ]
            with serial(head_dim // lanes) as j:
                at = (s, h, j * lanes)
                a, b = load_f32(out, at, lanes), load_f32(other, at, lanes)
                store_f32(out, at, a * weights[0] + b * weights[1], lanes)
            T.buffer_store(lse, T.log2(total) + top, [s, h])
    return built.get()
