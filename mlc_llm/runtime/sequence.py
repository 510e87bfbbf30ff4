"""One sequence of tokens in the KV cache, and the pages that hold its keys and values.

A token's keys and values are the same however the sequence came to be, as long as each token was
computed in the same phase: prompts in the prefill, their last token and generated ones in the
decode, which is more exact. So a sequence remembers the phase of each of its tokens, and a prefix
of another prompt counts as held only where both the tokens and their phases are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.page_pool import PagePool

PREFILLED, DECODED = 0, 1
"""The phases of tokens, as bytes."""


class CachedSequence:
    """Tokens whose keys and values are in the cache.

    Args:
        pool: where its pages come from.
        number: its row in the page table.
        row: that row, (pages,) int32.
        page_size: tokens of a page.

    Attributes:
        tokens: the tokens.
        phases: the phase of each of them.
        pages: its pages, in their order.
    """

    def __init__(
        self, pool: PagePool, number: int, row: npt.NDArray[np.int32], page_size: int
    ) -> None:
        self.number = number
        self.tokens: list[int] = []
        self.phases = bytearray()
        self.pages: list[int] = []
        self._pool, self._row, self._page_size = pool, row, page_size

    def __len__(self) -> int:
        return len(self.tokens)

    def reserve(self, length: int) -> None:
        """Take pages until there is room for ``length`` tokens.

        Raises:
            ValueError: the cache does not take sequences of that length.
            OutOfPages: there are not enough; those that were taken stay.
        """
        if length > len(self._row) * self._page_size:
            most = len(self._row) * self._page_size
            raise ValueError(f"a sequence of {length} tokens is longer than the cache's {most}")
        while len(self.pages) * self._page_size < length:
            self._row[len(self.pages)] = page = self._pool.take()
            self.pages.append(page)

    def extend(self, tokens: Iterable[int], phase: int) -> None:
        """Note that tokens were appended, whose pages were reserved."""
        self.tokens.extend(tokens)
        self.phases += bytes([phase]) * (len(self.tokens) - len(self.phases))

    def truncate(self, length: int) -> None:
        """Forget the tokens from ``length`` on.

        What is kept may be less: a page that other sequences use must not be written to, so its
        tokens are forgotten too, unless all of them are kept.
        """
        pages = -(-length // self._page_size)
        if length % self._page_size and self._pool.users(self.pages[pages - 1]) > 1:
            pages -= 1
            length = pages * self._page_size
        # Released last to first, they are taken again in their order: consecutive pages stay
        # consecutive, and are copied at once.
        for page in reversed(self.pages[pages:]):
            self._pool.release(page)
        del self.pages[pages:], self.tokens[length:], self.phases[length:]

    def share(self, other: CachedSequence, length: int) -> None:
        """Take over the first tokens of another sequence, as many as fill whole pages.

        Args:
            other: a sequence of the same pool.
            length: most tokens to take over.
        """
        self.truncate(0)
        pages = min(length, len(other)) // self._page_size
        for index, page in enumerate(other.pages[:pages]):
            self._row[index] = self._pool.share(page)
            self.pages.append(page)
        self.tokens = other.tokens[: pages * self._page_size]
        self.phases = other.phases[: pages * self._page_size]

    def held(self, tokens: Sequence[int], phases: Sequence[int]) -> int:
        """How many tokens at the beginning are held, computed in these phases."""
        return common_length(self.tokens, self.phases, tokens, phases)


def common_length(
    tokens: Sequence[int],
    phases: Sequence[int],
    other_tokens: Sequence[int],
    other_phases: Sequence[int],
) -> int:
    """How many tokens at the beginning of two sequences are equal, and computed in one phase."""
    pairs = zip(tokens, phases, other_tokens, other_phases, strict=False)
    return next(
        (
            i
            for i, (token, phase, other, other_phase) in enumerate(pairs)
            if token != other or phase != other_phase
        ),
        min(len(tokens), len(other_tokens)),
    )


class Run(NamedTuple):
    """Tokens that a pass appends to a sequence."""

    sequence: CachedSequence
    tokens: Sequence[int]


def prompt_phases(length: int, generated: Iterable[range] = ()) -> bytearray:
    """The phase of each token of a prompt.

    Args:
        length: number of tokens.
        generated: where tokens stand that the model generated. Each was computed from the one
            before it, so that this one is decoded too.
    """
    phases = bytearray(length)
    for part in (*generated, range(length, length)):
        begin = max(part.start - 1, 0)
        phases[begin : part.stop] = bytes([DECODED]) * (part.stop - begin)
    return phases


def phase_runs(phases: Sequence[int]) -> list[tuple[int, int]]:
    """Phases in a row as (phase, how many)."""
    return [(phase, len([*run])) for phase, run in groupby(phases)]
