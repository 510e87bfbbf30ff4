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
        known: numbers of the first pages, as :mod:`mlc_llm.runtime.prefix_cache` knows them.
    """

    def __init__(
        self, pool: PagePool, number: int, row: npt.NDArray[np.int32], page_size: int
    ) -> None:
        self.number = number
        self.tokens: list[int] = []
        self.phases = bytearray()
        self.pages: list[int] = []
        self.known: list[int] = []
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
        """Note that tokens were computed, whose pages were reserved."""
        self.tokens.extend(tokens)
        self.phases += bytes([phase]) * (len(self.tokens) - len(self.phases))

    def adopt(self, tokens: Iterable[int], phases: Iterable[int]) -> None:
        """Note tokens whose keys and values came from elsewhere, each with its phase."""
        self.tokens.extend(tokens)
        self.phases.extend(phases)

    def truncate(self, length: int) -> None:
        """Forget the tokens from ``length`` on.

        What is kept may be less: a page that is known must not be written to, so its tokens are
        forgotten, too, unless all of them are kept.
        """
        pages = -(-length // self._page_size)
        if length % self._page_size and pages <= len(self.known):
            pages -= 1
            length = pages * self._page_size
        # Released last to first, they are taken again in their order: consecutive pages stay
        # consecutive, and are copied at once. What stands last is also forgotten first.
        for page in reversed(self.pages[pages:]):
            self._pool.release(page)
        del self.pages[pages:], self.known[pages:], self.tokens[length:], self.phases[length:]

    def share(self, page: int, number: int, tokens: Iterable[int], phases: Iterable[int]) -> None:
        """Append a full page that others use, too.

        Args:
            page: the page.
            number: the number by which it is known.
            tokens: what it holds.
            phases: the phase of each.
        """
        self._row[len(self.pages)] = self._pool.share(page)
        self.pages.append(page)
        self.known.append(number)
        self.adopt(tokens, phases)


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
