"""How the linear kernels divide a weight into blocks of 16 rows."""

from __future__ import annotations

from .vector import Expr, ceil_div, i64

ROWS = 16  # rows of the weight in a packed block: outputs computed together


def block_count(n: int) -> int:
    """Blocks of the packed layout of n rows: an even number, as kernels take two at a time."""
    return 2 * -(-n // (2 * ROWS))


def blocks_of(n: int | None, rows: Expr) -> Expr:
    """`block_count` in a kernel, where n may be known only as the size `rows` of a tensor."""
    return i64(block_count(n)) if n is not None else ceil_div(rows, 2 * ROWS) * 2
