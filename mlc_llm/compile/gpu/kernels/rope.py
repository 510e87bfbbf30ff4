"""Rotary position embedding of a pair of a head: see `mlc_llm.plugin.Rope`.

All is float32. The angle, the product of the position and the pair's frequency, is brought into
[-pi / 4, pi / 4] by quarter turns, with an error of 3e-7 for each thousand turns. There sin and cos
are polynomials, within 1.3 units of roundoff. Shading languages promise far less of their own, and
CUDA's reduce huge angles with a table in memory.
"""

from __future__ import annotations

import math

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import turned
from mlc_llm.plugin import Rope

from .launch import Expr, bind, f32, i32, registers, write

QUARTER = (1.5, 0.0703125, math.pi / 2 - 1.5703125)
"""pi / 2 in parts. The first have so few bits that their product with a number of quarter turns is
exact."""

SIN = (-0.16666655242443085, 0.008332176133990288, -0.00019516969041433185)
"""sin(x) = x + x^3 p(x^2): the coefficients of p, the constant first."""

COS = (0.04166664555668831, -0.0013887364184483886, 2.4438073523924686e-05)
"""cos(x) = 1 - x^2 / 2 + x^4 p(x^2). Both are minimax fits, by reweighted least squares."""


def rotate_pair(rope: Rope, pair: Expr, a: Expr, b: Expr, position: Expr) -> tuple[Expr, Expr]:
    """The elements of a rotated pair, as float32 expressions that are read before both are written.

    Args:
        rope: how heads are rotated.
        pair: which pair.
        a, b: its elements as float32.
        position: the token's position.
    """
    angle = bind(f32(position) * _choose(rope.frequencies, pair))
    cos, sin = (bind(_times(value, rope.factor)) for value in _cos_sin(angle))
    first, second = turned(bind(a), bind(b), cos, sin)
    return bind(first), bind(second)


def _times(value: Expr, factor: float) -> Expr:
    return value if factor == 1.0 else value * f32(factor)


def _cos_sin(angle: Expr) -> tuple[Expr, Expr]:
    """cos and sin of a bound angle: those of what quarter turns leave of it, or each other's."""
    quarters = bind(T.round(angle * f32(2 / math.pi)))
    x = angle
    for part in QUARTER:
        x = bind(x - quarters * f32(part))
    square = bind(x * x)
    sin = bind(x + x * square * _polynomial(SIN, square))
    cos = bind(f32(1.0) - square * f32(0.5) + square * square * _polynomial(COS, square))
    number = bind(T.Cast("int32", quarters))
    odd = (number & i32(1)) == i32(1)
    return (
        _negative_if(((number + i32(1)) & i32(2)) == i32(2), T.Select(odd, sin, cos)),
        _negative_if((number & i32(2)) == i32(2), T.Select(odd, cos, sin)),
    )


def _polynomial(coefficients: tuple[float, ...], x: Expr) -> Expr:
    value = f32(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + f32(coefficient)
    return value


def _negative_if(condition: Expr, value: Expr) -> Expr:
    value = bind(value)
    return T.Select(condition, -value, value)


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
