"""Rotary position embedding, applied while the fused q, k, v are taken apart.

For pair i of a head (elements i and i + d/2) at position p:

    out[i]       = x[i] * cos(p f_i) - x[i + d/2] * sin(p f_i)
    out[i + d/2] = x[i + d/2] * cos(p f_i) + x[i] * sin(p f_i)

with the inverse frequencies f_i of `mlc_llm.compile.rope`. The angle is the float32 product of p
and f_i, and the rotation float32, as transformers does it; cos and sin (`sincos.py`) are computed
once for a token and serve all its heads.
"""

from __future__ import annotations

from functools import cache
from math import gcd

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

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
    when,
)

_MAX_LANES = 16  # LLVM splits vectors that are wider than the CPU's


@cache
def split_rotary(
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dtype: str,
    inv_freq: tuple[float, ...],
    attention_factor: float = 1.0,
) -> PrimFunc:
    """Split qkv and rotate q and k, as TVM's KV cache calls it.

    Arguments of the kernel: qkv (s, hq + 2 hkv, d), position_map (s,) int32, q (s, hq, d),
    k (s, hkv, d), v (s, hkv, d), apply_rope (int64; 0 only copies).

    Args:
        num_q_heads: hq.
        num_kv_heads: hkv.
        head_dim: d.
        dtype: dtype of qkv, q, k and v.
        inv_freq: `inverse_frequencies`, or any head_dim / 2 numbers.
        attention_factor: multiplies cos and sin.

    Raises:
        ValueError: there are not head_dim / 2 frequencies.
    """
    if len(inv_freq) != head_dim // 2:
        raise ValueError(f"{head_dim // 2} inverse frequencies are needed, not {len(inv_freq)}")
    with kernel("split_rotary") as built:
        tokens = size()
        qkv = argument("qkv", (tokens, num_q_heads + 2 * num_kv_heads, head_dim), dtype)
        position_map = argument("position_map", (tokens,), "int32", view=True)
        q = argument("q", (tokens, num_q_heads, head_dim), dtype)
        k = argument("k", (tokens, num_kv_heads, head_dim), dtype)
        v = argument("v", (tokens, num_kv_heads, head_dim), dtype)
        apply_rope = T.arg("apply_rope", T.int64())

        def rotate_token(s: Expr) -> None:
            cos, sin = scratch((head_dim // 2,)), scratch((head_dim // 2,))
            _angles(position_map[s], inv_freq, attention_factor, cos, sin)
            with when(apply_rope > 0):
                _rotate(qkv, q, s, 0, cos, sin)
                _rotate(qkv, k, s, num_q_heads, cos, sin)
            with when(apply_rope <= 0):
                _copy(qkv, q, s, 0)
                _copy(qkv, k, s, num_q_heads)
            _copy(qkv, v, s, num_q_heads + num_kv_heads)

        each_token(tokens, rotate_token)
    return built.get()


def _angles(
    position: Expr, inv_freq: tuple[float, ...], factor: float, cos: Buffer, sin: Buffer
) -> None:
    """cos and sin of every pair. The table of frequencies is a row of constants in the code."""
    frequency = scratch((len(inv_freq),))
    for i, f in enumerate(inv_freq):
        T.buffer_store(frequency, f32(f), [i64(i)])
    position = bind(T.Cast("float32", position))
    lanes = gcd(len(inv_freq), _MAX_LANES)
    with serial(len(inv_freq) // lanes) as j:
        i = bind(j * lanes)
        angle = bind(splat(position, lanes) * load(frequency, (i,), lanes))
        sine, cosine = sin_cos(angle, lanes)
        store(cos, (i,), cosine * splat(factor, lanes), lanes)
        store(sin, (i,), sine * splat(factor, lanes), lanes)


def _rotate(qkv: Buffer, out: Buffer, s: Expr, first: int, cos: Buffer, sin: Buffer) -> None:
    half = int(out.shape[2]) // 2
    lanes = gcd(half, _MAX_LANES)
    with serial(out.shape[1]) as h, serial(half // lanes) as j:
        i = bind(j * lanes)
        c, n = bind(load(cos, (i,), lanes)), bind(load(sin, (i,), lanes))
        a = bind(load_f32(qkv, (s, h + first, i), lanes))
        b = bind(load_f32(qkv, (s, h + first, i + half), lanes))
        store_f32(out, (s, h, i), a * c - b * n, lanes)
        store_f32(out, (s, h, i + half), b * c + a * n, lanes)


def _copy(qkv: Buffer, out: Buffer, s: Expr, first: int) -> None:
    lanes = gcd(int(out.shape[2]), _MAX_LANES)
    with serial(out.shape[1]) as h, serial(int(out.shape[2]) // lanes) as j:
        store(out, (s, h, j * lanes), load(qkv, (s, h + first, j * lanes), lanes), lanes)
