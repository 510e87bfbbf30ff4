"""The pieces of some rows as one list of tasks, and how a row's pieces become one result.

out = sum over pieces of 2^lse_i out_i / (sum 2^lse_i + 2^sink), with a sink's logit if there is one
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import LOG2E

from .isa import Isa
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    bind,
    exp2_nonpositive,
    f32,
    i64,
    load,
    parallel,
    scratch,
    serial,
    splat,
    store_f32,
    when,
)


@dataclass(frozen=True)
class Pieces:
    """Pieces of row r are starts[r] .. starts[r + 1] - 1; every row has at least one."""

    starts: Buffer  # (rows + 1,) int64
    rows: Expr
    total: Expr

    @staticmethod
    def count(rows: Expr, most_rows: Expr, of: Callable[[Expr], Expr]) -> Pieces:
        """Emit the counting; `of` gives a row's number of pieces."""
        starts = scratch((most_rows + 1,), "int64")
        T.buffer_store(starts, i64(0), [i64(0)])
        with serial(rows) as r:
            T.buffer_store(starts, starts[r] + T.max(of(r), i64(1)), [r + 1])
        return Pieces(starts, rows, bind(starts[rows]))

    def row(self, piece: Expr) -> Expr:
        """The row that a piece is of."""
        found = scratch((1,), "int64")
        T.buffer_store(found, i64(0), [i64(0)])
        with serial(self.rows) as r, when(self.starts[r] <= piece):
            T.buffer_store(found, r, [i64(0)])
        return bind(found[i64(0)])

    @property
    def several(self) -> Expr:
        """Whether a row has more than one piece."""
        return self.total > self.rows

    def alone(self, row: Expr) -> Expr:
        """Whether a row has one piece."""
        return self.starts[row + 1] - self.starts[row] == i64(1)


def share_of(lse: Expr, sink: Expr) -> Expr:
    """2^lse / (2^lse + 2^sink): what is left to the values beside a sink's logit (base e)."""
    sink = bind(sink * f32(LOG2E))
    top = bind(T.max(lse, sink))
    mine = exp2_nonpositive(lse - top, 1)
    return bind(mine / (mine + exp2_nonpositive(sink - top, 1)))


def join_pieces(
    pieces: Pieces,
    parts: Buffer,
    parts_lse: Buffer,
    sinks: Buffer | None,
    out: Buffer,
    first_row: Expr,
    isa: Isa,
) -> None:
    """Emit out[first_row + r] of the rows of several pieces.

    parts (pieces, heads, d) and parts_lse (pieces, heads) are float32.
    """
    heads, d = int(parts.shape[1]), int(parts.shape[2])
    lanes = gcd(d, isa.lanes)
    with parallel(pieces.rows * heads) as task:
        row = bind(T.truncdiv(task, i64(heads)))
        head = bind(T.truncmod(task, i64(heads)))
        with when(T.Not(pieces.alone(row))):
            begin = bind(pieces.starts[row])
            count = bind(pieces.starts[row + 1] - begin)
            sink = None if sinks is None else bind(sinks[head] * f32(LOG2E))
            top = Accumulator(1, parts_lse[begin, head] if sink is None else sink)
            with serial(count) as i:
                top.set(T.max(top.get(), parts_lse[begin + i, head]))
            highest = bind(top.get())
            total = Accumulator(1)
            if sink is not None:
                total.set(exp2_nonpositive(sink - highest, 1))
            sums = [Accumulator(lanes) for _ in range(d // lanes)]
            with serial(count) as i:
                weight = exp2_nonpositive(parts_lse[begin + i, head] - highest, 1)
                total.add(weight)
                for e, part in enumerate(sums):
                    at = (begin + i, head, i64(e * lanes))
                    part.add(load(parts, at, lanes) * splat(weight, lanes))
            whole = bind(total.get())
            for e, part in enumerate(sums):
                value = part.get() / splat(whole, lanes)
                store_f32(out, (first_row + row, head * d + e * lanes), value, lanes)
