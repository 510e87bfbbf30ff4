"""The rows of a tile of queries: which token and head each is, and the way in and out of the tile.

A tile is transposed, (d, rows); tokens' heads are read and written whole, and transposed in blocks
that are as wide as a vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import query_scale
from mlc_llm.plugin import AttentionSpec

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
class TileRows:
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


def load_rows(qkv: Buffer, rows: TileRows, spec: AttentionSpec, tile: Buffer, isa: Isa) -> None:
    """tile (d, rows) = the queries, which are the first columns of qkv, scaled."""
    d, count = (int(n) for n in tile.shape)
    lanes = gcd(d, isa.lanes)
    scale = splat(f32(query_scale(spec)), lanes)
    with serial(count // lanes) as block:
        r = [bind(block * lanes + i) for i in range(lanes)]
        at = [(rows.begin + rows.token_of(i), bind(rows.head_of(i) * d)) for i in r]
        with serial(d // lanes) as column:
            e = bind(column * lanes)
            lines = [bind(load_f32(qkv, (token, head + e), lanes) * scale) for token, head in at]
            for i, line in enumerate(transpose(lines)):
                store(tile, (e + i, block * lanes), line, lanes)


def write_rows(rows: TileRows, tile: Buffer, total: Buffer, out: Buffer, isa: Isa) -> None:
    """out (tokens, heads * d) = tile (d, rows) / total, for the rows that exist."""
    d, count = (int(n) for n in tile.shape)
    lanes = gcd(d, isa.lanes)
    with serial(count // lanes) as block:
        r = [bind(block * lanes + i) for i in range(lanes)]
        at = [(rows.begin + rows.token_of(i), bind(rows.head_of(i) * d)) for i in r]
        exists = [rows.exists(i) for i in r]
        share = bind(splat(1.0, lanes) / load(total, (block * lanes,), lanes))
        with serial(d // lanes) as column:
            e = bind(column * lanes)
            lines = [bind(load(tile, (e + i, block * lanes), lanes) * share) for i in range(lanes)]
            for (token, head), line, there in zip(at, transpose(lines), exists, strict=True):
                with when(there):
                    store_f32(out, (token, head + e), line, lanes)
