"""The register tile of the float32 matrix products: a panel of weights times many tokens.

The panel (k, 16 * blocks) holds the transposed weights of one or two blocks of rows, in float32 (or
the stored float type). A tile of tokens keeps its whole result in registers while k passes by: for
each k, load the panel's row, and for each token multiply it by the token's activation and add.
"""

from __future__ import annotations

from collections.abc import Callable

from .blocks import BLOCK_ROWS
from .isa import Isa
from .output import Output
from .vector import Accumulator, Buffer, Expr, bind, ceil_div, i64, load_f32, serial, splat, when

PANEL_TOKENS = 128  # tokens taken at a time, so that their activations stay in the cache


def panel_blocks(isa: Isa) -> int:
    """Blocks of 16 rows in a panel: at least two vectors wide."""
    return 2 if isa.lanes == 16 else 1


def tile_tokens(isa: Isa) -> int:
    """Tokens in a tile: what the registers hold beside a row of the panel and an activation."""
    wide = panel_blocks(isa) * BLOCK_ROWS // isa.lanes
    return min(8, (isa.registers - wide - 1) // wide)


def multiply_panel(
    panel: Buffer,
    x: Buffer,
    tokens: Expr,
    y: Output,
    first: Expr,
    block: Expr,
    isa: Isa,
) -> None:
    """y[first + i, 16 * block ...] = x[i] @ panel for i < tokens.

    x (PANEL_TOKENS, k) float32: rows from `tokens` on are read, their results dropped.
    """

    def panel_row(k: Expr, v: int) -> Expr:
        return load_f32(panel, (k, i64(v * isa.lanes)), isa.lanes)

    multiply(panel_row, panel.shape[0], x, tokens, y, first, block, isa)


def multiply(
    panel_row: Callable[[Expr, int], Expr],
    k_extent: Expr,
    x: Buffer,
    tokens: Expr,
    y: Output,
    first: Expr,
    block: Expr,
    isa: Isa,
) -> None:
    """`multiply_panel` with vector v of row k of the panel given by a function."""
    tile, per_block = tile_tokens(isa), BLOCK_ROWS // isa.lanes
    wide = panel_blocks(isa) * per_block
    with serial(ceil_div(tokens, tile)) as t:
        sums = [[Accumulator(isa.lanes) for _ in range(wide)] for _ in range(tile)]
        with serial(k_extent) as k:
            weights = [bind(panel_row(k, v)) for v in range(wide)]
            for m in range(tile):
                activation = bind(splat(x[t * tile + m, k], isa.lanes))
                for v in range(wide):
                    sums[m][v].add(weights[v] * activation)
        for m in range(tile):
            with when(t * tile + m < tokens):
                for b in range(panel_blocks(isa)):
                    values = [total.get() for total in sums[m][b * per_block : (b + 1) * per_block]]
                    y.store(bind(first + t * tile + m), bind(block + b), values)
