"""Rows that are normalised: by their root mean square, or by their mean and variance.

    RmsNormed      y = x * f * w              f = 1 / sqrt(mean(x^2) + eps)
    LayerNormed    y = (x - m) * f * w + b    f = 1 / sqrt(mean((x - m)^2) + eps), m = mean(x)

with 1 + w in place of w where an RMS norm has a unit offset. All in float32; only results are
rounded to the dtype of y. The variance is taken from the differences, in a pass of its own: the
mean of the squares minus the square of the mean would lose all digits of a row far from 0.

Error: that of a float32 sum of k squares, below 1e-6 of |y - b|, the rounding, and with a mean that
of the mean, about 2e-7 max|x| f |w|. A sum of squares overflows from |x| = 1.8e19 / sqrt(k) on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from .rows import InputRows, Read, RowKind, left_over
from .vector import Accumulator, Buffer, Expr, bind, f32, fold_sum, i64, load_f32, serial, splat

_WEIGHT, _BIAS = "norm_weight", "norm_bias"


@dataclass(frozen=True)
class RmsNormed(RowKind):
    """x / sqrt(mean(x^2) + epsilon) * weight. Arguments: x (m, k), weight (k,).

    Args:
        epsilon: of the norm.
        weight_dtype: of the weight.
        unit_offset: whether the factor is 1 + weight.
    """

    epsilon: float
    weight_dtype: str
    unit_offset: bool = False

    @property
    def name(self) -> str:
        return "rms_norm"

    def weights(self) -> Mapping[str, str]:
        return {_WEIGHT: self.weight_dtype}

    def reader(self, rows: InputRows, row: Expr, lanes: int) -> Read:
        weight = rows.weights[_WEIGHT]
        return rms_normed(rows.elements(row), rows.k, weight, self.epsilon, self.unit_offset, lanes)


@dataclass(frozen=True)
class LayerNormed(RowKind):
    """(x - mean) / sqrt(variance + epsilon) * weight + bias.

    Arguments: x (m, k), weight (k,), bias (k,) where there is one.

    Args:
        epsilon: of the norm.
        weight_dtype: of the weight and the bias.
        bias: whether there is a bias.
    """

    epsilon: float
    weight_dtype: str
    bias: bool = True

    @property
    def name(self) -> str:
        return "layer_norm"

    def weights(self) -> Mapping[str, str]:
        return dict.fromkeys((_WEIGHT, _BIAS) if self.bias else (_WEIGHT,), self.weight_dtype)

    def reader(self, rows: InputRows, row: Expr, lanes: int) -> Read:
        x, k, weights = rows.elements(row), rows.k, rows.weights
        mean = bind(_sum(x, k, lanes) * f32(1.0 / k))

        def centred(at: Expr, n: int) -> Expr:
            return x(at, n) - splat(mean, n)

        factor = _factor(centred, k, self.epsilon, lanes)

        def read(at: Expr, n: int) -> Expr:
            y = centred(at, n) * splat(factor, n) * load_f32(weights[_WEIGHT], (at,), n)
            return y + load_f32(weights[_BIAS], (at,), n) if self.bias else y

        return read


def rms_normed(
    x: Read, k: int, weight: Buffer, epsilon: float, unit_offset: bool, lanes: int
) -> Read:
    """Emit the factor of k elements, and return how to read them normalised."""
    factor = _factor(x, k, epsilon, lanes)

    def read(at: Expr, n: int) -> Expr:
        scale = load_f32(weight, (at,), n)
        return x(at, n) * splat(factor, n) * (scale + splat(1.0, n) if unit_offset else scale)

    return read


def _factor(x: Read, k: int, epsilon: float, lanes: int) -> Expr:
    """1 / sqrt(mean(x^2) + epsilon)."""

    def square(at: Expr, n: int) -> Expr:
        v = bind(x(at, n))
        return v * v

    return bind(f32(1.0) / T.sqrt(_sum(square, k, lanes) * f32(1.0 / k) + f32(epsilon)))


def _sum(term: Read, k: int, lanes: int) -> Expr:
    """The sum of k terms, lane by lane before the lanes are added."""
    sums = Accumulator(lanes)
    if k >= lanes:
        with serial(k // lanes) as j:
            sums.add(term(j * lanes, lanes))
    total = fold_sum(sums.get(), lanes)
    for at, n in left_over(k, lanes):
        total = bind(total + fold_sum(term(i64(at), n), n))
    return total
