"""What the attention kernels of all devices have in common: scores, masks and rotation.

Devices differ in how they compute: in the type of an index, in vectors or threads, and in the order
of sums. What is said here once is the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from mlc_llm.compile.kernel import Expr
from mlc_llm.plugin import AttentionSpec, Rope

LOWEST = -1e38  # the maximum before any key; no score is as low
HIDDEN = -3.4e38  # the score of a key that is not seen
LOG2E = math.log2(math.e)


def query_scale(spec: AttentionSpec) -> float:
    """By what queries are multiplied before they meet the keys.

    Scores are in base 2. A product with the scaled query is a score, or with a soft cap what the
    cap's tanh is taken of.
    """
    return spec.scale * LOG2E if spec.soft_cap is None else spec.scale / spec.soft_cap


@dataclass(frozen=True)
class KeyMask:
    """Which keys a layer's queries see. Devices derive from it and say it in expressions.

    A query at position p sees the key at j if j <= p, and with a window also j > p - window or
    j < sink.

    Args:
        window: positions that a query sees, its own the last; None for all.
        sink: first positions that are seen whatever the window; 0 without a window.
    """

    window: int | None
    sink: int

    @classmethod
    def of(cls, spec: AttentionSpec) -> Self:
        """The mask of a layer."""
        return cls(spec.window, spec.sink if spec.window is not None else 0)


@dataclass(frozen=True)
class KeySpans:
    """The spans of equally many keys that have one which some queries see.

    A span that is hidden from a query changes nothing for it. So a query's result is the same to
    the bit whatever the others are.

    Args:
        count: number of spans.
        first: number of a span -> its first key, a multiple of the keys of a span.
    """

    count: Expr
    first: Callable[[Expr], Expr]


def rotated_elements(rope: Rope | None) -> int:
    """The first elements of a head that a rotation changes."""
    return 0 if rope is None else 2 * len(rope.frequencies)


def pair_elements(rope: Rope, pair: Expr) -> tuple[Expr, Expr]:
    """Which elements of a head a pair is."""
    if rope.interleaved:
        return pair * 2, pair * 2 + 1
    return pair, pair + len(rope.frequencies)


def turned(a: Expr, b: Expr, cos: Expr, sin: Expr) -> tuple[Expr, Expr]:
    """The elements of a pair after its rotation; cos and sin have the factor of the `Rope`."""
    return a * cos - b * sin, b * cos + a * sin
