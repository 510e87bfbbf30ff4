"""Where a linear kernel's results go: y, and what is added to them on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tvm.script.ir_builder import tirx as T

from .blocks import BLOCK_ROWS
from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    f32,
    i64,
    load_f32,
    scratch,
    serial,
    size,
    store,
    store_f32,
    when,
)


@dataclass(frozen=True)
class Output:
    """Columns of y (m, width): the products, or their sum with a bias and a residual.

    Args:
        y: the results.
        bias: what is added to every row; it may be shorter than y's rows where `n` is None, and is
            0 past its end.
        residual: what is added, of y's shape and dtype.
        n: how many columns; None for a whole number of pairs of blocks.
        first: the first of them.
    """

    y: Buffer
    bias: Buffer | None
    residual: Buffer | None
    n: int | None
    first: int = 0

    @staticmethod
    def arguments(
        tokens: Expr, blocks: Expr, n: int | None, dtype: str, bias: str | None, residual: bool
    ) -> Output:
        """Declare the kernel's last arguments: the bias and the residual, where there are any, y.

        Args:
            tokens: rows of y.
            blocks: blocks of the weight; counts where `n` is None.
            n: columns of y; None where only the blocks know.
            dtype: dtype of y and the residual.
            bias: dtype of the bias; None for no bias.
            residual: whether there is a residual.
        """
        shape = (tokens, blocks * BLOCK_ROWS if n is None else n)
        each = None if bias is None else argument("bias", (size(n),), bias)
        added = argument("residual", shape, dtype) if residual else None
        return Output(argument("y", shape, dtype), each, added, n)

    @property
    def tokens(self) -> Expr:
        """Rows of y."""
        return self.y.shape[0]

    def columns(self, first: int, n: int | None) -> Output:
        """The `n` columns from `first` on, for a part of the weight."""
        return replace(self, first=first, n=n)

    def store(self, m: Expr, block: Expr, values: Sequence[Expr]) -> None:
        """Write row m of the columns of a block, 16 of them, but nothing past the last."""
        lanes = BLOCK_ROWS // len(values)
        column = bind(block * BLOCK_ROWS)

        def whole() -> None:
            for v, value in enumerate(values):
                at = column + (self.first + v * lanes)
                if self.bias is not None:
                    value = load_f32(self.bias, (at,), lanes) + value
                if self.residual is not None:
                    value = load_f32(self.residual, (m, at), lanes) + value
                store_f32(self.y, (m, at), value, lanes)

        if self.n is not None:
            end = None if self.n % (2 * BLOCK_ROWS) == 0 else self.n
        else:
            end = None if self.bias is None else self.bias.shape[0]
        if end is None:
            whole()
            return
        with when(column + BLOCK_ROWS <= end):
            whole()
        with when(column + BLOCK_ROWS > end):
            edge = scratch((BLOCK_ROWS,))
            for v, value in enumerate(values):
                store(edge, (i64(v * lanes),), value, lanes)
            count = BLOCK_ROWS if self.n is None else T.max(self.n - column, i64(0))
            with serial(count) as i:
                self._store_one(m, bind(column + (self.first + i)), edge[i])

    def _store_one(self, m: Expr, at: Expr, value: Expr) -> None:
        if self.bias is not None:
            each = load_f32(self.bias, (at,), 1)
            if self.n is None:
                each = T.if_then_else(at < self.bias.shape[0], each, f32(0))
            value = each + value
        if self.residual is not None:
            value = load_f32(self.residual, (m, at), 1) + value
        T.buffer_store(self.y, T.Cast(self.y.dtype, value), [m, at])
