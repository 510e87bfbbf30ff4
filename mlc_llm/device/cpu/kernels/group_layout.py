"""The layout of codes in groups that the kernels read.

Of a weight (n, k) whose rows are divided into groups of G, 16 rows are 16 lanes, so that no sum
crosses lanes:

    codes    (blocks, groups, G / 8, 64) uint8    of at most 4 bits each: byte [b, g, c, 4 * i + j]
                                                  belongs to row 16 * b + i; its low nibble is the
                                                  code of k = G * g + 4 * c + j, its high nibble
                                                  that of G / 2 further
             (blocks, groups, G / 4, 64) uint8    of more bits: the byte is the code of
                                                  k = G * g + 4 * c + j
    scales   (blocks, groups, 16)                 of row 16 * b + i
    minimums (blocks, groups, 16)                 where the scheme has them

groups = ceil(k / G). Codes past k are whatever they were stored as: they meet activations of 0.
blocks is even (`blocks.py`), as the kernels take two at a time. Rows past n have scales and
minimums of 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlc_llm.plugin.scheme import Scheme

from .blocks import BLOCK_ROWS, packed_blocks
from .vector import Buffer, Expr, argument


@dataclass(frozen=True)
class Part:
    """A part of a weight; its rows follow those of the part before.

    Args:
        rows: how many; None for the vocabulary, which only the packed tensors know.
        scheme: how they are stored.

    Raises:
        ValueError: the kernels take no such scheme.
    """

    rows: int | None
    scheme: Scheme

    def __post_init__(self) -> None:
        if self.scheme.bits > 8 or self.scheme.group % 8:
            raise ValueError(
                f"codes must have at most 8 bits and groups be multiples of 8, not {self.scheme}"
            )

    @property
    def nibbles(self) -> bool:
        """Whether a packed byte holds two codes."""
        return self.scheme.bits <= 4

    @property
    def chunks(self) -> int:
        """Vectors of four bytes of each row that hold the codes of a group."""
        return self.scheme.group // (8 if self.nibbles else 4)


def packed_shapes(part: Part, columns: int) -> list[tuple[tuple[int | str, ...], str]]:
    """Shapes and dtypes of the packed tensors: codes, scales, and minimums where there are some.

    Args:
        part: what is packed.
        columns: columns of the weight.
    """
    blocks, groups = packed_blocks(part.rows), part.scheme.groups(columns)
    dtype, factors = part.scheme.dtype, 1 + part.scheme.has_minimum
    return [
        ((blocks, groups, part.chunks, 4 * BLOCK_ROWS), "uint8"),
        *[((blocks, groups, BLOCK_ROWS), dtype)] * factors,
    ]


@dataclass(frozen=True)
class PackedTensors:
    """The packed tensors of a part, in a kernel; `minimums` is None where there are none."""

    part: Part
    codes: Buffer
    scales: Buffer
    minimums: Buffer | None

    @staticmethod
    def arguments(part: Part, columns: int, blocks: Expr, suffix: str = "") -> PackedTensors:
        """Declare them.

        Args:
            part: what is packed.
            columns: columns of the weight.
            blocks: how many blocks.
            suffix: tells their names from those of other parts.
        """
        shapes = packed_shapes(part, columns)
        names = [name + suffix for name in ("codes", "scales", "minimums")]
        tensors = [
            argument(name, (blocks, *shape[1:]), dtype)
            for name, (shape, dtype) in zip(names, shapes, strict=False)
        ]
        codes, scales, minimums = [*tensors, None][:3]
        return PackedTensors(part, codes, scales, minimums)

    @property
    def factors(self) -> list[Buffer]:
        """The scales, and the minimums where there are some."""
        return [self.scales] if self.minimums is None else [self.scales, self.minimums]
