"""The functions between the matrices of a feed-forward layer, alone and times a second half.

All in float32; only the result is rounded to its dtype. With v = 2 ** -24, the unit of roundoff,
and e the relative error of the GPU's exp:

========= ======================================== ==================================
function  computed as                              error
========= ======================================== ==================================
silu      x / (1 + exp(-x))                        (4 v + e) |silu(x)|
gelu_tanh x / (1 + exp(-2 u)), u as below          (4 v + e + 8 |u| v) |gelu_tanh(x)|
gelu      max(x, 0) - |x| erfc(|x| / sqrt(2)) / 2  v |gelu(x)| + (5e-7 + e + x^2 v) t
relu      max(x, 0)                                0
relu2     max(x, 0)^2                              v relu2(x)
========= ======================================== ==================================

u = sqrt(2 / pi) (x + 0.044715 x^3), and 1 + tanh(u) = 2 / (1 + exp(-2 u)). t is the last term of
gelu's formula, at most 0.17.

No exp overflows, since shading languages promise nothing of infinities: its argument is bounded
where the function is 0 or x already, up to 1e-30 |x|.

Shading languages have no erfc. For z >= 0 it is exp(-z^2) r P(r) with r = 1 / (1 + z / 2), where
the polynomial P is a minimax fit (by reweighted least squares): relative error 5e-8 for z up to
15, far beyond where float32 has no number for erfc. Its rounding makes the 5e-7 above.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.model.layers import ActivationName

from .launch import (
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
    when,
    write,
)

ERFC = (
    0.2820843458175659,
    0.2824121117591858,
    0.24283510446548462,
    0.20375245809555054,
    -0.029148153960704803,
    0.2817324697971344,
    -0.49040544033050537,
    0.2861234247684479,
    -0.05938632786273956,
)
"""The coefficients of P, the constant first."""

SMALLEST_EXPONENT = -80.0
"""exp of it is 2e-35, and of its negative 6e34, both normal numbers of float32."""

FLAT = 10.0
"""From here on, 1 + tanh(u) is 2, and at its negative 0, in float32."""


def silu(x: Expr) -> Expr:
    """x / (1 + exp(-x))."""
    return x / (f32(1.0) + T.exp(-T.max(x, f32(SMALLEST_EXPONENT))))


def gelu_tanh(x: Expr) -> Expr:
    """GELU with tanh in the place of erf."""
    near = bind(T.min(T.max(x, f32(-FLAT)), f32(FLAT)))
    scale = -2.0 * math.sqrt(2.0 / math.pi)
    minus_2u = near * (f32(scale) + f32(scale * 0.044715) * near * near)
    return x / (f32(1.0) + T.exp(minus_2u))


def gelu(x: Expr) -> Expr:
    """x times the normal distribution's cumulative function."""
    near = bind(T.min(T.abs(x), f32(math.sqrt(-2.0 * SMALLEST_EXPONENT))))
    r = bind(f32(1.0) / (f32(1.0) + near * f32(0.5 * math.sqrt(0.5))))
    polynomial = f32(ERFC[-1])
    for coefficient in reversed(ERFC[:-1]):
        polynomial = polynomial * r + f32(coefficient)
    tail = T.exp(near * near * f32(-0.5)) * r * polynomial
    return T.max(x, f32(0.0)) - near * f32(0.5) * tail


def relu(x: Expr) -> Expr:
    """max(x, 0)."""
    return T.max(x, f32(0.0))


def relu2(x: Expr) -> Expr:
    """max(x, 0)^2."""
    positive = bind(relu(x))
    return positive * positive


FUNCTIONS: Mapping[ActivationName, Callable[[Expr], Expr]] = {
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": relu,
    "relu2": relu2,
}
"""Each takes a bound float32 value; see `ActivationName`."""


@cache
def activation(
    name: ActivationName, columns: int, dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """A function of each element. Arguments of the kernel: x (m, f), y (m, f); both `dtype`."""
    return _elementwise(name, columns, dtype, capabilities, gated=False)


@cache
def gated(
    name: ActivationName, columns: int, dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """A function of a gate, times the rest of its row: f columns of each.

    Arguments of the kernel: x (m, 2 f) holding the gate first, y (m, f); both `dtype`.
    """
    return _elementwise(name, columns, dtype, capabilities, gated=True)


def _elementwise(
    name: ActivationName, columns: int, dtype: str, capabilities: GPUCapabilities, gated: bool
) -> PrimFunc:
    threads = capabilities.light
    with kernel(f"{name}_mul" if gated else name) as built:
        rows = size()
        x = argument("x", (rows, 2 * columns if gated else columns), dtype)
        y = argument("y", (rows, columns), dtype)
        with launch([ceil_div(size(columns), threads), rows], threads) as ((part, row), thread):
            j = bind(part * i32(threads) + thread)
            with when(j < i32(columns)):
                value = FUNCTIONS[name](bind(load_f32(x, (row, j))))
                if gated:
                    value = value * load_f32(x, (row, j + i32(columns)))
                write(y, (row, j), value)
    return built.get()
