"""How the linear kernels divide a weight into blocks of 16 rows."""

from __future__ import annotations

from .vector import Expr, ceil_div, i64

BLOCK_ROWS = 16  # rows of the weight in a packed block: outputs computed together
VOCABULARY_BLOCKS = "vocab_blocks"  # the number of blocks that only the packed tensors know


def block_count(n: int) -> int:
    """Blocks of the packed layout of n rows: an even number, as kernels take two at a time."""
    return 2 * -(-n // (2 * BLOCK_ROWS))


def packed_blocks(n: int | None) -> int | str:
    """`block_count` as a size of the packed tensors; that of the vocabulary is symbolic."""
    return VOCABULARY_BLOCKS if n is None else block_count(n)


def blocks_of(n: int | None, rows: Expr) -> Expr:
    """`block_count` in a kernel, where n may be known only as the size `rows` of a tensor."""
    return i64(block_count(n)) if n is not None else ceil_div(rows, 2 * BLOCK_ROWS) * 2
