"""How the linear kernels divide a weight: blocks of 16 rows, groups of 32 columns."""

from __future__ import annotations

ROWS = 16  # rows of the weight in a packed block: outputs computed together
GROUP = 32  # weights of a row that share a scale in 4 bits


def block_count(n: int) -> int:
    """Blocks of the packed layout of n rows: an even number, as kernels take two at a time."""
    return 2 * -(-n // (2 * ROWS))


def group_count(k: int) -> int:
    """Groups of a row of k weights."""
    return -(-k // GROUP)
