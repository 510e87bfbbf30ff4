"""Rotary position embedding of a pair of a head.

The elements a and b of pair i of a head, at position p, become

    a' = factor * (a * cos(p f_i) - b * sin(p f_i))
    b' = factor * (b * cos(p f_i) + a * sin(p f_i))

in float32; `mlc_llm.plugin.Rope` says which elements are a pair. The angle is the float32 product
of p and f_i. It is brought into one turn before sin and cos are taken, which GPUs compute well only
there, with an error of 3e-7 for each thousand turns.
"""

from __future__ import annotations

import math

from tvm.script.ir_builder import tirx as T

from mlc_llm.plugin import Rope

from .launch import Expr, bind, f32, i32, registers, store

TURN = (6.25, 0.03125, 2 * math.pi - 6.28125)
"""2 pi in parts. The first have so few bits that their product with a number of turns is exact."""


def pair_elements(rope: Rope, pair: Expr) -> tuple[Expr, Expr]:
    """Which elements of a head a pair is."""
    if rope.interleaved:
        return bind(pair * i32(2)), bind(pair * i32(2) + i32(1))
    return pair, bind(pair + i32(len(rope.frequencies)))


def rotate_pair(rope: Rope, pair: Expr, a: Expr, b: Expr, position: Expr) -> tuple[Expr, Expr]:
    """The elements of a rotated pair, as float32 expressions that are read before both are written.

    Args:
        rope: how heads are rotated.
        pair: which pair.
        a, b: its elements as float32.
        position: the token's position.
    """
    angle = _within_a_turn(f32(position) * _choose(rope.frequencies, pair))
    cos, sin = (bind(_times(f(angle), rope.factor)) for f in (T.cos, T.sin))
    a, b = bind(a), bind(b)
    return bind(a * cos - b * sin), bind(b * cos + a * sin)


def _times(value: Expr, factor: float) -> Expr:
    return value if factor == 1.0 else value * f32(factor)


def _within_a_turn(angle: Expr) -> Expr:
    """The angle less whole turns, in [-pi, pi]."""
    angle = bind(angle)
    turns = bind(T.round(angle * f32(0.5 / math.pi)))
    for part in TURN:
        angle = bind(angle - turns * f32(part))
    return angle


def _choose(values: tuple[float, ...], index: Expr) -> Expr:
    """values[index], as a tree of selections: GPUs have no tables of constants in registers."""
    # TVM's simplifier knows nothing of what is in a register. Else it would try to decide each
    # comparison from how the index was computed, which takes seconds.
    held = registers((1,), "int32")
    store(held, (i32(0),), index)

    def choose(begin: int, end: int) -> Expr:
        if end - begin == 1:
            return f32(values[begin])
        middle = (begin + end) // 2
        return T.Select(held[i32(0)] < i32(middle), choose(begin, middle), choose(middle, end))

    return bind(choose(0, len(values)))
