"""Where a linear kernel's results go: y, and what is added to them on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from .blocks import ROWS
from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    i64,
    load_f32,
    scratch,
    serial,
    store,
    store_f32,
    when,
)


@dataclass(frozen=True)
class Output:
    """y (m, n): the products, or their sum with a residual (m, n).

    Args:
        y: the results.
        residual: what is added, of y's dtype.
        n: columns; None for a whole number of pairs of blocks.
    """

    y: Buffer
    residual: Buffer | None
    n: int | None

    @staticmethod
    def arguments(tokens: Expr, blocks: Expr, n: int | None, dtype: str, residual: bool) -> Output:
        """Declare the kernel's last arguments: the residual, where there is one, and y."""
        shape = (tokens, blocks * ROWS if n is None else n)
        added = argument("residual", shape, dtype) if residual else None
        return Output(argument("y", shape, dtype), added, n)

    @property
    def tokens(self) -> Expr:
        """Rows of y."""
        return self.y.shape[0]

    def store(self, m: Expr, block: Expr, values: Sequence[Expr]) -> None:
        """Write y[m, 16 * block : 16 * block + 16], but nothing past column n."""
        lanes = ROWS // len(values)
        column = bind(block * ROWS)

        def whole() -> None:
            for v, value in enumerate(values):
                at = (m, column + v * lanes)
                if self.residual is not None:
                    value = load_f32(self.residual, at, lanes) + value
                store_f32(self.y, at, value, lanes)

        if self.n is None or self.n % (2 * ROWS) == 0:
            whole()
            return
        with when(column + ROWS <= self.n):
            whole()
        with when(column + ROWS > self.n):
            edge = scratch((ROWS,))
            for v, value in enumerate(values):
                store(edge, (i64(v * lanes),), value, lanes)
            with serial(T.max(self.n - column, i64(0))) as i:
                self._store_one(m, column + i, edge[i])

    def _store_one(self, m: Expr, column: Expr, value: Expr) -> None:
        if self.residual is not None:
            value = load_f32(self.residual, (m, column), 1) + value
        T.buffer_store(self.y, T.Cast(self.y.dtype, value), [m, column])
