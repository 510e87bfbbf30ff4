"""Rows that are functions of each element, alone or as the gate of another: `ActivationName`.

    logistic(x)  = 1 / (1 + e) for x >= 0, e / (1 + e) for x < 0, with e = exp(-|x|), never above 1
    silu(x)      = x logistic(x)
    gelu_tanh(x) = x logistic(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
    gelu(x)      = x (1 - q) for x >= 0, x q for x < 0, with q = erfc(|x| / sqrt(2)) / 2

as (1 + tanh(u)) / 2 = logistic(2 u). Nothing overflows; nor does anything cancel for x < 0, where
1 + erf or 1 + tanh would. The upper tail of the normal distribution is q = exp(-x^2 / 2) r(|x|),
with r(a) = exp(a^2 / 2) erfc(a / sqrt(2)) / 2 = t P(t), t = 1 / (1 + 0.35 a). P, of degree 8, was
fitted here for a in 0 .. 13.3: least squares on 400 Chebyshev nodes of t, reweighted until the
largest relative error was smallest (Lawson's algorithm), in float64, against the erfc of mpmath at
40 digits. 0.35 was the best of the multiples of 0.05. P has a relative error of 3.2e-8, or 3e-7
where it is computed in float32.

exp(-u) = 2^(-u log2 e) by the polynomial of degree 6 of `vector.exp2_nonpositive`, which gives 0
below 2^-127. To round u costs it a relative error of about 1e-7 u. Largest relative errors of the
results y, measured:

              |x| <= 1    |x| <= 5    |y| > 1e-36
    silu      2e-7        5e-7        4e-6
    gelu      4e-7        1.5e-6      8e-6
    gelu_tanh 3e-7        2.5e-6      1.5e-5
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from mlc_llm.model.layers import ActivationName

from .rows import InputRows, Read, RowKind
from .vector import Expr, bind, exp2_nonpositive, splat

_TOGETHER = 4  # a function takes some 25 operations, each of which waits for the one before


@dataclass(frozen=True)
class Activated(RowKind):
    """A function of each element. Arguments: x (m, k).

    Args:
        activation: which one.
    """

    activation: ActivationName
    together: ClassVar[int] = _TOGETHER

    @property
    def name(self) -> str:
        return self.activation

    def reader(self, rows: InputRows, row: Expr, lanes: int) -> Read:
        x, function = rows.elements(row), _FUNCTIONS[self.activation]
        return lambda at, n: function(bind(x(at, n)), n)


@dataclass(frozen=True)
class Gated(RowKind):
    """A function of the left half, times the right half. Arguments: x (m, 2 k).

    Args:
        activation: which function.
    """

    activation: ActivationName
    together: ClassVar[int] = _TOGETHER

    @property
    def name(self) -> str:
        return f"{self.activation}_mul"

    def width(self, k: int) -> int:
        return 2 * k

    def reader(self, rows: InputRows, row: Expr, lanes: int) -> Read:
        x, function = rows.elements(row), _FUNCTIONS[self.activation]
        return lambda at, n: function(bind(x(at, n)), n) * x(at + rows.k, n)


def _silu(x: Expr, lanes: int) -> Expr:
    return x * _logistic(x, lanes)


def _gelu(x: Expr, lanes: int) -> Expr:
    a = bind(T.fabs(x))
    t = bind(splat(1.0, lanes) / (splat(1.0, lanes) + a * splat(_TAIL_SCALE, lanes)))
    p = splat(_TAIL[0], lanes)
    for coefficient in _TAIL[1:]:
        p = bind(p * t + splat(coefficient, lanes))
    e = exp2_nonpositive(a * a * splat(-0.5 * math.log2(math.e), lanes), lanes)
    tail = bind(p * t * e)
    return x * T.Select(x < splat(0.0, lanes), tail, splat(1.0, lanes) - tail)


def _gelu_tanh(x: Expr, lanes: int) -> Expr:
    linear, cubic = (2 * math.sqrt(2 / math.pi) * c for c in (1.0, 0.044715))
    return x * _logistic(bind(x * (splat(linear, lanes) + splat(cubic, lanes) * x * x)), lanes)


def _relu(x: Expr, lanes: int) -> Expr:
    return T.max(x, splat(0.0, lanes))


def _relu2(x: Expr, lanes: int) -> Expr:
    positive = bind(_relu(x, lanes))
    return positive * positive


def _logistic(x: Expr, lanes: int) -> Expr:
    """1 / (1 + e^-x)."""
    e = exp2_nonpositive(T.fabs(x) * splat(-math.log2(math.e), lanes), lanes)
    numerator = T.Select(x < splat(0.0, lanes), e, splat(1.0, lanes))
    return bind(numerator / (splat(1.0, lanes) + e))


_FUNCTIONS: Mapping[ActivationName, Callable[[Expr, int], Expr]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
    "relu2": _relu2,
}

_TAIL_SCALE = 0.35
_TAIL = (  # P, the highest power first
    -0.0291151125,
    0.14381887,
    -0.255391926,
    0.158797577,
    -0.0228440855,
    0.105392411,
    0.119863026,
    0.139857575,
    0.13962166,
)
