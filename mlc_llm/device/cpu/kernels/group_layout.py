"""The layout of codes in groups that the kernels read.

Of a weight (n, k) whose rows are divided into groups of G, 16 rows are 16 lanes, so that no sum
crosses lanes:

    codes    (blocks, groups, chunks, 64) uint8  byte [b, g, c, 4 * i + j] is of row 16 * b + i
    scales   (blocks, groups, 16)                of row 16 * b + i
    minimums (blocks, groups, 16)                where the scheme has them

What is in a chunk of codes depends on their bits:

    1 to 4  G / 8 chunks of nibbles: the low nibble of byte [b, g, c, 4 * i + j] is the code of
            k = G * g + 4 * c + j, the high nibble that of G / 2 further
    5, 6    the same with the lower 4 bits of each code, then G / 32 or G / 16 chunks with the upper
            ones: those of chunk c are in chunk G / 8 + c // 4 or c // 2, in the same byte, the low
            nibble's below the high nibble's, and those of the first c lowest
    7, 8    G / 4 chunks: the byte is the code of k = G * g + 4 * c + j

Where scales and minimums have two levels, they are int8, and each is followed by a tensor of the
upper level, (blocks, super groups, 16).

groups = ceil(k / G). Codes past k are whatever they were stored as: they meet activations of 0.
blocks is even (`blocks.py`), as the kernels take two at a time. Rows past n have scales and
minimums of 0. Packed weights are as large as stored ones, but for these rows, and for codes of 1 to
3 and of 7 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from mlc_llm.plugin.scheme import Scheme

from .blocks import BLOCK_ROWS, packed_blocks
from .vector import Buffer, Expr, argument, i64


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
        """Whether a packed byte holds the lower bits of two codes."""
        return self.scheme.planes[0] <= 4

    @property
    def high_bits(self) -> int:
        """Bits of a code that are not in its nibble."""
        return sum(self.scheme.planes[1:])

    @property
    def chunks(self) -> int:
        """Vectors of four bytes of each row that hold codes of a group, or their lower bits."""
        return self.scheme.group // (8 if self.nibbles else 4)

    @property
    def all_chunks(self) -> int:
        """Those, and the vectors with the upper bits."""
        return self.chunks + self.scheme.group * self.high_bits // 32

    def high(self, c: int, nibble: int) -> tuple[int, int]:
        """Where the upper bits of a nibble of chunk c are: in which chunk, and from which bit."""
        chunk, place = divmod(2 * c + nibble, 8 // self.high_bits)
        return self.chunks + chunk, place * self.high_bits


def packed_shapes(part: Part, columns: int) -> list[tuple[tuple[int | str, ...], str]]:
    """Shapes and dtypes of the packed tensors: codes, scales, and minimums where there are some.

    Args:
        part: what is packed.
        columns: columns of the weight.
    """
    scheme, blocks = part.scheme, packed_blocks(part.rows)
    groups, supers = scheme.groups(columns), scheme.super_groups(columns)
    levels = [(groups, "int8"), (supers, scheme.dtype)]
    factors = levels if scheme.has_two_levels else [(groups, scheme.dtype)]
    return [
        ((blocks, groups, part.all_chunks, 4 * BLOCK_ROWS), "uint8"),
        *(
            ((blocks, width, BLOCK_ROWS), str(dtype))
            for width, dtype in factors * (1 + scheme.has_minimum)
        ),
    ]


@dataclass(frozen=True)
class Factors:
    """Scales or minimums, in a kernel.

    Args:
        lower: those of the groups.
        upper: of two levels, those of the super groups; None for one level.
        span: groups of a super group.
    """

    lower: Buffer
    upper: Buffer | None
    span: int

    def over(self, g: Expr) -> Expr:
        """The super group of group g."""
        return T.truncdiv(g, i64(self.span))


@dataclass(frozen=True)
class PackedTensors:
    """The packed tensors of a part, in a kernel; `minimums` is None where there are none."""

    part: Part
    codes: Buffer
    scales: Factors
    minimums: Factors | None

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
        names = ["codes", "scales", "minimums"]
        if part.scheme.has_two_levels:
            names = ["codes", "scales", "super_scales", "minimums", "super_minimums"]
        codes, *tensors = (
            argument(name + suffix, (blocks, *shape[1:]), dtype)
            for name, (shape, dtype) in zip(names, shapes, strict=False)
        )
        span = (part.scheme.super_group or part.scheme.group) // part.scheme.group
        levels = 2 if part.scheme.has_two_levels else 1
        factors = [
            Factors(tensors[i], tensors[i + 1] if levels == 2 else None, span)
            for i in range(0, len(tensors), levels)
        ]
        return PackedTensors(part, codes, factors[0], factors[1] if len(factors) > 1 else None)

    @property
    def factors(self) -> list[Factors]:
        """The scales, and the minimums where there are some."""
        return [self.scales] if self.minimums is None else [self.scales, self.minimums]
