"""What the pages of the KV cache hold, so that the beginning of a prompt is found in them.

A page is known by its tokens, by the phases in which they were computed, and by the page before it,
so that all that stands before is equal, too. Full pages are found as they are; of one that agrees
in part, or was never filled, the first tokens can be copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlc_llm.runtime.page_pool import PagePool
from mlc_llm.runtime.sequence import CachedSequence, common_length

Content = tuple[tuple[int, ...], bytes]
"""The tokens of a page, and their phases."""

BEGIN = 0
"""Stands before the first page of a sequence; other numbers are those of known pages."""


@dataclass(frozen=True)
class KnownPage:
    """A page whose content is known.

    Args:
        page: the page.
        number: its own; a page that is forgotten and known again gets another one.
        before: the number of the page before it.
        content: what it holds.
    """

    page: int
    number: int
    before: int
    content: Content


class Found(NamedTuple):
    """What is held of a prompt.

    Args:
        pages: full pages, in their order.
        part: a page whose first tokens come next, if any.
        tokens: how many of them.
    """

    pages: list[KnownPage]
    part: KnownPage | None = None
    tokens: int = 0


class PrefixCache:
    """Finds pages by what they hold.

    Args:
        size: tokens of a page.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._last = BEGIN
        self._known: dict[int, KnownPage] = {}
        self._numbered: dict[int, KnownPage] = {}
        self._after: dict[int, dict[Content, KnownPage]] = {}

    @property
    def pages(self) -> list[int]:
        """All pages whose content is known."""
        return list(self._known)

    def find(self, tokens: Sequence[int], phases: Sequence[int]) -> Found:
        """Which pages hold the beginning of a prompt.

        Args:
            tokens: the prompt.
            phases: the phase in which each token must be computed.
        """
        pages: list[KnownPage] = []
        before = BEGIN
        while (begin := len(pages) * self._size) + self._size <= len(tokens):
            found = self._after.get(before, {}).get(self._content(tokens, phases, begin))
            if found is None:
                break
            pages.append(found)
            before = found.number
        rest = tokens[begin : begin + self._size], phases[begin : begin + self._size]
        count, part = 0, None
        for known in self._after.get(before, {}).values():
            common = common_length(*known.content, *rest)
            if common > count:
                count, part = common, known
        return Found(pages, part, count)

    def remember(self, sequence: CachedSequence, pool: PagePool, partial: bool = False) -> None:
        """Have the pages of a sequence found from now on, and kept when they are released.

        Args:
            sequence: the sequence.
            pool: where its pages come from.
            partial: whether the last page, too, although it is not full; nothing must be appended
                to the sequence then.
        """
        length = len(sequence)
        last = -(-length // self._size) if partial else length // self._size
        for index in range(len(sequence.known), last):
            before = sequence.known[-1] if sequence.known else BEGIN
            content = self._content(sequence.tokens, sequence.phases, index * self._size)
            alike = self._after.setdefault(before, {})
            # Another page may hold the same. Both have its number, and it is the one that is found.
            if (known := alike.get(content)) is None:
                self._last += 1
                known = KnownPage(sequence.pages[index], self._last, before, content)
                self._known[known.page] = self._numbered[known.number] = alike[content] = known
                pool.keep(known.page)
            sequence.known.append(known.number)

    def forget(self, page: int) -> None:
        """Forget what a page holds, since it is about to be overwritten."""
        known = self._known.pop(page)
        del self._numbered[known.number]
        alike = self._after[known.before]
        del alike[known.content]
        if not alike:
            del self._after[known.before]

    def ending(self, number: int) -> Iterator[int]:
        """Pages that only what ended with this page needs, from the last one on.

        Args:
            number: of that page. It must be forgotten, as each page that this gives, before the
                next is asked for.
        """
        while (known := self._numbered.get(number)) is not None and number not in self._after:
            yield known.page
            number = known.before

    def _content(self, tokens: Sequence[int], phases: Sequence[int], begin: int) -> Content:
        end = begin + self._size
        return tuple(tokens[begin:end]), bytes(phases[begin:end])
