"""What a linear kernel multiplies: the rows of x as they are, normalised, or gated.

    plain     x (m, k)
    normed    x (m, k), weight (k,):   x / sqrt(mean(x^2) + eps) * weight (see `norm.py`)
    gated     x (m, 2 k):              silu(x[:k]) * x[k:]                (see `activation.py`)

A row is computed where the kernel would read it, so that it is never written to memory and costs no
launch of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tvm.script.ir_builder import tirx as T

from .activation import swiglu
from .norm import rms_factor
from .vector import Buffer, Expr, argument, bind, f32, i64, load_f32, serial, splat, store

Read = Callable[[Expr, int], Expr]
"""(element, lanes) -> `lanes` consecutive elements of one row as float32."""


@dataclass(frozen=True)
class RowsOf:
    """How a kernel's rows are made of its arguments.

    Args:
        kind: see above.
        epsilon: of the norm.
        weight_dtype: of the norm's weight.
    """

    kind: Literal["plain", "normed", "gated"] = "plain"
    epsilon: float = 0.0
    weight_dtype: str = "float32"

    def arguments(self, tokens: Expr, k: int, dtype: str) -> Rows:
        """Declare the kernel's first arguments: x, and the norm's weight."""
        width = 2 * k if self.kind == "gated" else k
        x = argument("x", (tokens, width), dtype)
        normed = self.kind == "normed"
        weight = argument("norm_weight", (k,), self.weight_dtype) if normed else None
        return Rows(self, k, x, weight)


PLAIN = RowsOf()
GATED = RowsOf("gated")


@dataclass(frozen=True)
class Rows:
    """Rows of `k` elements, in a kernel."""

    of: RowsOf
    k: int
    x: Buffer
    weight: Buffer

    @staticmethod
    def plain(x: Buffer) -> Rows:
        """The rows of a matrix (m, k) as they are."""
        return Rows(PLAIN, int(x.shape[1]), x, None)

    def reader(self, row: Expr, lanes: int) -> Read:
        """Emit what a row needs before it can be read, and return how to read it."""
        if self.of.kind == "gated":
            return lambda at, n: swiglu(
                bind(load_f32(self.x, (row, at), n)), load_f32(self.x, (row, at + self.k), n), n
            )
        if self.of.kind == "normed":
            factor = rms_factor(self.x, row, self.k, self.of.epsilon, lanes)
            return lambda at, n: (
                load_f32(self.x, (row, at), n) * splat(factor, n) * load_f32(self.weight, (at,), n)
            )
        return lambda at, n: load_f32(self.x, (row, at), n)

    def copy(self, row: Expr, out: Buffer, out_row: Expr, lanes: int) -> None:
        """out[out_row, :] = the row as float32, and 0 from k to the width of `out`."""
        read, width = self.reader(row, lanes), int(out.shape[1])
        with serial(self.k // lanes) as j:
            store(out, (out_row, j * lanes), bind(read(j * lanes, lanes)), lanes)
        for j in range(self.k - self.k % lanes, self.k):
            T.buffer_store(out, read(i64(j), 1), [out_row, i64(j)])
        for j in range(self.k, width):
            T.buffer_store(out, f32(0), [out_row, i64(j)])
