"""The pieces of all sequences as one list of tasks, and how a sequence's pieces become one result.

out = sum over pieces of 2^lse_i out_i / sum 2^lse_i    lse = log2(sum 2^lse_i)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from .vector import (
    Accumulator,
    Buffer,
    Expr,
    bind,
    exp2_nonpositive,
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
    """Pieces of sequence b are starts[b] .. starts[b + 1] - 1; every sequence has at least one."""

    starts: Buffer  # (batch + 1,) int64
    batch: Expr
    total: Expr

    @staticmethod
    def count(batch: Expr, of: Callable[[Expr], Expr]) -> Pieces:
        """Emit the counting; `of` gives a sequence's number of pieces."""
        starts = scratch((batch + 1,), "int64")
        T.buffer_store(starts, i64(0), [i64(0)])
        with serial(batch) as b:
            T.buffer_store(starts, starts[b] + T.max(of(b), i64(1)), [b + 1])
        return Pieces(starts, batch, bind(starts[batch]))

    def sequence(self, piece: Expr) -> Expr:
        """The sequence that a piece is of."""
        found = scratch((1,), "int64")
        T.buffer_store(found, i64(0), [i64(0)])
        with serial(self.batch) as b, when(self.starts[b] <= piece):
            T.buffer_store(found, b, [i64(0)])
        return bind(found[i64(0)])

    @property
    def several(self) -> Expr:
        """Whether a sequence has more than one piece."""
        return self.total > self.batch

    def alone(self, b: Expr) -> Expr:
        """Whether sequence b has one piece."""
        return self.starts[b + 1] - self.starts[b] == i64(1)


def join_pieces(
    pieces: Pieces, parts: Buffer, parts_lse: Buffer, out: Buffer, lse: Buffer, lanes: int
) -> None:
    """Emit out (batch, heads, d) and lse (batch, heads) of the sequences of several pieces.

    parts (pieces, heads, d) and parts_lse (pieces, heads) are float32.
    """
    heads, d = int(out.shape[1]), int(out.shape[2])
    with parallel(pieces.batch * heads) as row:
        b = bind(T.truncdiv(row, i64(heads)))
        head = bind(T.truncmod(row, i64(heads)))
        with when(T.Not(pieces.alone(b))):
            begin = bind(pieces.starts[b])
            count = bind(pieces.starts[b + 1] - begin)
            top = Accumulator(1, parts_lse[begin, head])
            with serial(count) as i:
                top.set(T.max(top.get(), parts_lse[begin + i, head]))
            highest = bind(top.get())
            total = Accumulator(1)
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
                store_f32(out, (b, head, i64(e * lanes)), value, lanes)
            T.buffer_store(lse, highest + T.log2(whole), [b, head])
