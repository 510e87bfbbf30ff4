"""Rotary position embedding, applied while the fused q, k, v are taken apart.

For pair i of a head (elements i and i + d/2) at position p:

    out[i]       = x[i] * cos(p f_i) - x[i + d/2] * sin(p f_i)
    out[i + d/2] = x[i + d/2] * cos(p f_i) + x[i] * sin(p f_i)

with the inverse frequencies f_i of `mlc_llm.compile.rope`. The angle is the float32 product of p
and f_i. It is brought into one turn before sin and cos are taken, which GPUs compute well only
there.
"""

from __future__ import annotations

import math
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .launch import (
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    f32,
    i32,
    kernel,
    launch,
    load_f32,
    size,
    store,
    when,
)

TURN = 6.28125
"""The first bits of 2 pi: a multiple of it by a number of turns is exact."""


@cache
def split_rotary(
    num_q_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dtype: str,
    inv_freq: tuple[float, ...],
    threads: int,
) -> PrimFunc:
    """Split qkv and rotate q and k, as TVM's KV cache calls it.

    Arguments of the kernel: qkv (s, hq + 2 hkv, d), position_map (s,) int32, q (s, hq, d),
    k (s, hkv, d), v (s, hkv, d), apply_rope (int64; 0 only copies).

    Args:
        num_q_heads: hq.
        num_kv_heads: hkv.
        head_dim: d.
        dtype: dtype of qkv, q, k and v.
        inv_freq: d / 2 angles per position.
        threads: threads of a workgroup.

    Raises:
        ValueError: there are not d / 2 frequencies.
    """
    half, heads = head_dim // 2, num_q_heads + 2 * num_kv_heads
    if len(inv_freq) != half:
        raise ValueError(f"{half} inverse frequencies are needed, not {len(inv_freq)}")
    with kernel("split_rotary") as built:
        tokens = size()
        qkv = argument("qkv", (tokens, heads, head_dim), dtype)
        position_map = argument("position_map", (tokens,), "int32", view=True)
        q = argument("q", (tokens, num_q_heads, head_dim), dtype)
        k = argument("k", (tokens, num_kv_heads, head_dim), dtype)
        v = argument("v", (tokens, num_kv_heads, head_dim), dtype)
        apply_rope = i32(T.arg("apply_rope", T.int64()))
        with launch([ceil_div(size(heads * half), threads), tokens], threads) as (block, thread):
            pair, s = bind(block[0] * i32(threads) + thread), block[1]
            with when(pair < i32(heads * half)):
                h, i = bind(T.truncdiv(pair, i32(half))), bind(T.truncmod(pair, i32(half)))
                a = bind(load_f32(qkv, (s, h, i)))
                b = bind(load_f32(qkv, (s, h, i + i32(half))))
                turns = T.Select(apply_rope > i32(0), position_map[s], i32(0))
                angle = _within_a_turn(bind(f32(turns) * _choose(inv_freq, i)))
                cos, sin = bind(T.cos(angle)), bind(T.sin(angle))
                first, last = i32(num_q_heads), i32(num_q_heads + num_kv_heads)
                with when(h < first):
                    _store_pair(q, (s, h), i, half, a * cos - b * sin, b * cos + a * sin)
                with when(T.And(h >= first, h < last)):
                    _store_pair(k, (s, h - first), i, half, a * cos - b * sin, b * cos + a * sin)
                with when(h >= last):
                    _store_pair(v, (s, h - last), i, half, a, b)
    return built.get()


def _store_pair(out: Buffer, head: tuple[Expr, Expr], i: Expr, half: int, a: Expr, b: Expr) -> None:
    store(out, (*head, i), a)
    store(out, (*head, i + i32(half)), b)


def _within_a_turn(angle: Expr) -> Expr:
    """The angle less whole turns, in [-pi, pi]."""
    turns = bind(T.round(angle * f32(0.5 / math.pi)))
    return bind(angle - turns * f32(TURN) - turns * f32(2 * math.pi - TURN))


def _choose(values: tuple[float, ...], index: Expr) -> Expr:
    """values[index], as a tree of selections: GPUs have no tables of constants in registers."""

    def choose(begin: int, end: int) -> Expr:
        if end - begin == 1:
            return f32(values[begin])
        middle = (begin + end) // 2
        return T.Select(index < i32(middle), choose(begin, middle), choose(middle, end))

    return bind(choose(0, len(values)))
