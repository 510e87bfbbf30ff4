"""Sine and cosine in vectors.

    x = q pi/2 + t, q the nearest integer, |t| <= pi/4
    sin t = t + t u S(u)    cos t = 1 - u/2 + u^2 C(u)    u = t^2

q mod 4 says which of the two is which, and their signs. The reduction is float64, so that t is as
exact as float32 can be for |x| < 2^24; S and C are minimax polynomials. Error: below 2e-7.
"""

from __future__ import annotations

import math

from tvm.script.ir_builder import tirx as T

from .vector import Expr, bind, i32, splat, vtype

_S = (-1.95172668e-4, 8.33217792e-3, -1.66666549e-1)
_C = (2.44384155e-5, -1.38873672e-3, 4.16666469e-2)
_ROUND = 1.5 * 2.0**52  # added to a small float64, leaves the nearest integer in its low bits


def sin_cos(x: Expr, lanes: int) -> tuple[Expr, Expr]:
    """sin x and cos x of a float32 vector."""
    quadrant, t = _reduce(x, lanes)
    u = bind(t * t)
    sine = bind(t + t * u * _polynomial(_S, u, lanes))
    cosine = bind(splat(1.0, lanes) - u * splat(0.5, lanes) + u * u * _polynomial(_C, u, lanes))
    zero, one = splat(i32(0), lanes), splat(i32(1), lanes)
    odd = bind(quadrant & one)
    return (
        _signed(T.Select(odd > zero, cosine, sine), quadrant, lanes),
        _signed(T.Select(odd > zero, sine, cosine), quadrant + one, lanes),
    )


def _reduce(x: Expr, lanes: int) -> tuple[Expr, Expr]:
    """The quadrant q (int32; only its low bits count) and the rest t."""
    doubles, integers = vtype("float64", lanes), vtype("int64", lanes)

    def double(value: float) -> Expr:
        constant = T.float64(value)
        return constant if lanes == 1 else T.Broadcast(constant, lanes)

    quarters = bind(T.Cast(doubles, x) * double(2 / math.pi))
    # As bits, or TVM would take (x + c) - c for x.
    rounded = bind(T.reinterpret(integers, quarters + double(_ROUND)))
    rest = quarters - (T.reinterpret(doubles, rounded) - double(_ROUND))
    quadrant = bind(T.Cast(vtype("int32", lanes), rounded))
    return quadrant, bind(T.Cast(vtype("float32", lanes), rest * double(math.pi / 2)))


def _polynomial(coefficients: tuple[float, ...], u: Expr, lanes: int) -> Expr:
    value = splat(coefficients[0], lanes)
    for coefficient in coefficients[1:]:
        value = bind(value * u + splat(coefficient, lanes))
    return value


def _signed(value: Expr, quadrant: Expr, lanes: int) -> Expr:
    """-value where the second bit of `quadrant` is set."""
    integers = vtype("int32", lanes)
    sign = T.shift_left(quadrant & splat(i32(2), lanes), splat(i32(30), lanes))
    bits = T.reinterpret(integers, bind(value)) ^ sign
    return bind(T.reinterpret(vtype("float32", lanes), bits))
