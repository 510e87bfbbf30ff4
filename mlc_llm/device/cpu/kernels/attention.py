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

from .attention_decode import attend_one
from .attention_prefill import attend_many
from .attention_source import Mask, PagedKeys, RaggedKeys
from .isa import Isa
from .vector import (
    argument,
    bind,
    i64,
    kernel,
    load_f32,
    parallel,
    serial,
    size,
    splat,
    store_f32,
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
        with parallel(batch * num_kv_heads) as task:
            b = bind(T.truncdiv(task, i64(num_kv_heads)))
            h = bind(T.truncmod(task, i64(num_kv_heads)))
            source = keys.of(b, h)
            mask = Mask(window, sink, k_offset[b])
            group = num_q_heads // num_kv_heads
            attend_one(q, source, mask, q_position[b], out, lse, b, h, group, sm_scale, isa)
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
            top = bind(T.max(lse[s, h], other_lse[s, h]))
            mine, theirs = bind(T.exp2(lse[s, h] - top)), bind(T.exp2(other_lse[s, h] - top))
            total = bind(mine + theirs)
            weights = [bind(splat(bind(w / total), lanes)) for w in (mine, theirs)]
            with serial(head_dim // lanes) as j:
                at = (s, h, j * lanes)
                a, b = load_f32(out, at, lanes), load_f32(other, at, lanes)
                store_f32(out, at, a * weights[0] + b * weights[1], lanes)
            T.buffer_store(lse, T.log2(total) + top, [s, h])
    return built.get()
