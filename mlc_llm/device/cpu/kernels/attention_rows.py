"""The rows of a tile of queries: which token and head each is, and the way in and out of the tile.

A tile is transposed, (d, rows); tokens' heads are read and written whole, and transposed in blocks
that are as wide as a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from .attention_source import LOG2E
from .isa import Isa
from .vector import (
    Buffer,
    Expr,
    bind,
    f32,
    i64,
    load,
    load_f32,
    serial,
    splat,
    store,
    store_f32,
    transpose,
    when,
)


@dataclass(frozen=True)
class Rows:
    """The tile of `tokens` tokens times the `group` query heads of key head h.

    Row r is head r % group of token r // group; rows past the last token repeat it.
    """

    begin: Expr  # first token of the sequence
    queries: Expr  # tokens of the sequence
    token: Expr  # first token of the tile, counted from `begin`
    tokens: int  # tokens of a whole tile
    group: int
    h: Expr

    def token_of(self, r: Expr) -> Expr:
        """The token of row r, counted from `begin`."""
        i = T.min(T.truncdiv(r, i64(self.group)), i64(self.tokens - 1))
        return bind(T.min(self.token + i, self.queries - 1))

    def head_of(self, r: Expr) -> Expr:
        """The query head of row r."""
        return bind(self.h * self.group + T.truncmod(r, i64(self.group)))

    def exists(self, r: Expr) -> Expr:
        """Whether row r is not a repeated one."""
        i = bind(T.truncdiv(r, i64(self.group)))
        return bind(T.And(i < i64(self.tokens), self.token + i < self.queries))


def load_rows(q: Buffer, rows: Rows, sm_scale: Expr, tile: Buffer, isa: Isa) -> None:
    """tile (d, rows) = q (s, hq, d), scaled for scores that are base-2 logarithms."""
    d, count = (int(n) for n in tile.shape)
    lanes = gcd(d, isa.lanes)
    scale = bind(splat(bind(sm_scale * f32(LOG2E)), lanes))
    with serial(count // lanes) as block:
        r = [bind(block * lanes + i) for i in range(lanes)]
        at = [(rows.begin + rows.token_of(i), rows.head_of(i)) for i in r]
        with serial(d // lanes) as column:
            e = bind(column * lanes)
            lines = [bind(load_f32(q, (*place, e), lanes) * scale) for place in at]
            for i, line in enumerate(transpose(lines)):
                store(tile, (e + i, block * lanes), line, lanes)


def write_rows(
    rows: Rows, tile: Buffer, total: Buffer, top: Buffer, out: Buffer, lse: Buffer, isa: Isa
) -> None:
    """out (s, hq, d) = tile (d, rows) / total, and lse (s, hq), for the rows that exist."""
    d, count = (int(n) for n in tile.shape)
    lanes = gcd(d, isa.lanes)
    with serial(count // lanes) as block:
        r = [bind(block * lanes + i) for i in range(lanes)]
        at = [(rows.begin + rows.token_of(i), rows.head_of(i)) for i in r]
        exists = [rows.exists(i) for i in r]
        # Without a visible key the sums are 0 and stay so.
        sums = bind(load(total, (block * lanes,), lanes))
        sums = bind(T.Select(sums > splat(0.0, lanes), sums, splat(1.0, lanes)))
        share = bind(splat(1.0, lanes) / sums)
        with serial(d // lanes) as column:
            e = bind(column * lanes)
            lines = [bind(load(tile, (e + i, block * lanes), lanes) * share) for i in range(lanes)]
            for place, line, there in zip(at, transpose(lines), exists, strict=True):
                with when(there):
                    store_f32(out, (*place, e), line, lanes)
    with serial(count) as r, when(rows.exists(r)):
        whole = bind(T.Select(total[r] > f32(0), total[r], f32(1)))
        T.buffer_store(
            lse, top[r] + T.log2(whole), [rows.begin + rows.token_of(r), rows.head_of(r)]
        )
