"""Normalisation of rows, a workgroup for each row or each head of a row.

    RMS norm:    y = x / sqrt(mean(x^2) + eps) * w     (or 1 + w)
    layer norm:  y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * w + b

In float32; only the result is rounded to its dtype. A sum of k terms is over t threads, so that an
error of k / t + log2(t) + 8 units of roundoff is the most, relative to the result for the RMS norm,
and for the layer norm to what the result would be with |x| + |mean(x)| in place of x - mean(x):
the mean is taken first, and then the squares of what is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.plugin import AttentionSpec

from .launch import (
    Buffer,
    Expr,
    argument,
    barrier,
    bind,
    f32,
    fill,
    i32,
    kernel,
    launch,
    load_f32,
    reduce,
    registers,
    shared,
    size,
    strided,
    when,
    write,
)


@dataclass(frozen=True)
class RMSNormKind:
    """An RMS norm of rows, where it is part of another kernel.

    Args:
        eps: epsilon.
        unit_offset: whether the factor is 1 + w.
        weight_dtype: dtype of w.
    """

    eps: float
    unit_offset: bool
    weight_dtype: str


@cache
def rms_norm(
    columns: int,
    eps: float,
    unit_offset: bool,
    weight_dtype: str,
    dtype: str,
    capabilities: GPUCapabilities,
) -> PrimFunc:
    """Arguments of the kernel: x (m, k), w (k,) `weight_dtype`, y (m, k); the rest `dtype`.

    Args:
        columns: k.
        eps: epsilon.
        unit_offset: whether the factor is 1 + w.
        weight_dtype: dtype of w.
        dtype: dtype of x and y.
        capabilities: what the GPU can do.
    """
    threads = capabilities.wide
    with kernel("rms_norm") as built:
        rows = size()
        x = argument("x", (rows, columns), dtype)
        w = argument("w", (columns,), weight_dtype)
        y = argument("y", (rows, columns), dtype)
        with launch([rows], threads) as ((row,), thread):
            total = _Total(thread, threads, size(columns))
            factor = total.factor(lambda j: load_f32(x, (row, j)), columns, eps)
            with strided(thread, size(columns), threads) as j:
                scaled = load_f32(x, (row, j)) * factor
                write(y, (row, j), scaled * _weight(w, j, unit_offset))
    return built.get()


@cache
def head_norm(
    spec: AttentionSpec,
    eps: float,
    unit_offset: bool,
    weight_dtype: str,
    dtype: str,
    capabilities: GPUCapabilities,
) -> PrimFunc:
    """The RMS norm of each head of the queries and of the keys; values are copied.

    Arguments of the kernel: qkv (m, qkv_width), query w (key_size,), key w (key_size,), y as qkv.

    Args:
        spec: the heads; the keys are of the layer's own.
        eps: epsilon of both norms.
        unit_offset: whether the factors are 1 + w.
        weight_dtype: dtype of both weights.
        dtype: dtype of qkv and y.
        capabilities: what the GPU can do.
    """
    threads, columns = capabilities.light, spec.key_size
    normed = spec.query_heads + spec.kv_heads
    # The values are copied in parts that are as wide as a head of the keys.
    parts = -(-spec.qkv_width // columns)
    with kernel("head_norm") as built:
        rows = size()
        x = argument("qkv", (rows, spec.qkv_width), dtype)
        queries = argument("query_weight", (columns,), weight_dtype)
        keys = argument("key_weight", (columns,), weight_dtype)
        y = argument("y", (rows, spec.qkv_width), dtype)
        with launch([size(parts), rows], threads) as ((head, row), thread):
            begin = bind(head * i32(columns))
            count = bind(T.min(i32(columns), i32(spec.qkv_width) - begin))
            total = _Total(thread, threads, count)
            factor = total.factor(lambda j: load_f32(x, (row, begin + j)), columns, eps)
            with strided(thread, count, threads) as j:
                value = bind(load_f32(x, (row, begin + j)))
                for weight, first, end in (
                    (queries, 0, spec.query_heads),
                    (keys, spec.query_heads, normed),
                ):
                    with when(T.And(head >= i32(first), head < i32(end))):
                        scaled = value * factor
                        write(y, (row, begin + j), scaled * _weight(weight, j, unit_offset))
                with when(head >= i32(normed)):
                    write(y, (row, begin + j), value)
    return built.get()


@cache
def layer_norm(
    columns: int,
    eps: float,
    weight_dtype: str,
    bias_dtype: str | None,
    dtype: str,
    capabilities: GPUCapabilities,
) -> PrimFunc:
    """Arguments of the kernel: x (m, k), w (k,), b (k,) if there is a bias, y (m, k).

    Args:
        columns: k.
        eps: epsilon.
        weight_dtype: dtype of w.
        bias_dtype: dtype of b; None for no bias.
        dtype: dtype of x and y.
        capabilities: what the GPU can do.
    """
    threads = capabilities.wide
    with kernel("layer_norm") as built:
        rows = size()
        x = argument("x", (rows, columns), dtype)
        w = argument("w", (columns,), weight_dtype)
        b = None if bias_dtype is None else argument("b", (columns,), bias_dtype)
        y = argument("y", (rows, columns), dtype)
        with launch([rows], threads) as ((row,), thread):
            total = _Total(thread, threads, size(columns))
            mean = bind(total.of(lambda j: load_f32(x, (row, j))) * f32(1.0 / columns))
            factor = total.factor(lambda j: load_f32(x, (row, j)) - mean, columns, eps)
            with strided(thread, size(columns), threads) as j:
                scaled = (load_f32(x, (row, j)) - mean) * factor * load_f32(w, (j,))
                write(y, (row, j), scaled if b is None else scaled + load_f32(b, (j,)))
    return built.get()


class _Total:
    """Sums over the elements of a row, which the threads of a workgroup share.

    Args:
        thread: this thread.
        threads: how many there are.
        count: how many elements.
    """

    def __init__(self, thread: Expr, threads: int, count: Expr) -> None:
        self._thread, self._threads, self._count = thread, threads, count
        self._scratch, self._sums = shared((1, threads)), registers((1,))
        self._summed = False

    def of(self, term: Callable[[Expr], Expr]) -> Expr:
        """The sum of a term of each element, which counts until the next sum."""
        fill(self._sums, 0.0)
        with strided(self._thread, self._count, self._threads) as j:
            write(self._sums, (0,), self._sums[0] + term(j))
        if self._summed:
            barrier()
        self._summed = True
        reduce(self._sums, self._scratch, self._thread, lambda a, b: a + b)
        return self._sums[0]

    def factor(self, value: Callable[[Expr], Expr], columns: int, eps: float) -> Expr:
        """1 / sqrt(mean + eps) of the squares of `columns` values."""

        def square(j: Expr) -> Expr:
            one = bind(value(j))
            return one * one

        return bind(T.rsqrt(self.of(square) * f32(1.0 / columns) + f32(eps)))


def _weight(w: Buffer, column: Expr, unit_offset: bool) -> Expr:
    weight = load_f32(w, (column,))
    return f32(1.0) + weight if unit_offset else weight
