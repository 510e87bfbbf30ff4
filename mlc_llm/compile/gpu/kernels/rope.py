"""Rotary position embedding of a pair of a head: see `mlc_llm.plugin.Rope`.

All is float32. The angle, the product of the position and the pair's frequency, is brought into one
turn before sin and cos are taken, which GPUs compute well only there, with an error of 3e-7 for
each thousand turns.
"""

from __future__ import annotations

import math

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import turned
from mlc_llm.plugin import Rope

from .launch import Expr, bind, f32, i32, registers, write

TURN = (6.25, 0.03125, 2 * math.pi - 6.28125)
"""2 pi in parts. The first have so few bits that their product with a number of turns is exact."""


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
    first, second = turned(bind(a), bind(b), cos, sin)
    return bind(first), bind(second)


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
    write(held, (i32(0),), index)

    def choose(begin: int, end: int) -> Expr:
        if end - begin == 1:
            return f32(values[begin])
        middle = (begin + end) // 2
        return T.Select(held[i32(0)] < i32(middle), choose(begin, middle), choose(middle, end))

    return bind(choose(0, len(values)))
