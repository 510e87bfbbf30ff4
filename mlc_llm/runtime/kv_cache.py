"""The KV cache: tensors of pages, and which sequence has which of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.device_memory import on_host
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.runtime.page_pool import OutOfPages, PagePool
from mlc_llm.runtime.pass_tables import PassTables
from mlc_llm.runtime.prefix_cache import PrefixCache
from mlc_llm.runtime.sequence import CachedSequence, Run

if TYPE_CHECKING:
    import tvm

Words = npt.NDArray[np.unsignedinteger]
"""Keys and values, each number's bits as an unsigned integer: NumPy has no bfloat16."""


class KVCache:
    """The keys and values of some sequences.

    It keeps every token, those before a sliding window included, which the kernels do not look at.

    Args:
        geometry: what the library says of its pages.
        length: most tokens of a sequence.
        rows: most tokens of a pass.
        device: where the pages are.
        sequences: most sequences at a time.
        tokens: tokens that all of them may have together; None for as many as each may have.
        recycled: how many sequences that ended are remembered; None for as many as there is room.

    Attributes:
        geometry: the shape of its pages.
        pages: a tensor for each layer that has keys and values of its own.
        pool: which of the pages are in use.
    """

    def __init__(
        self,
        geometry: KVCacheGeometry,
        length: int,
        rows: int,
        device: tvm.runtime.Device,
        sequences: int = 1,
        tokens: int | None = None,
        recycled: int | None = None,
    ) -> None:
        from tvm.runtime import empty

        self.geometry = geometry
        per_sequence = -(-length // geometry.page_size)
        total = sequences * per_sequence if tokens is None else -(-tokens // geometry.page_size)
        self._prefixes = PrefixCache(geometry.page_size)
        self.pool = PagePool(total, self._prefixes.forget)
        shapes = geometry.page_shapes
        self.pages = [empty((self.pool.count, *s), geometry.dtype, device) for s in shapes]
        self._recycled = recycled
        # The last pages of those that ended, by their numbers; the one that ended last stands last.
        self._ended: dict[int, None] = {}
        self._tables = PassTables(sequences, per_sequence, rows, device)
        self._on_host = on_host(device)
        self._numbers = list(reversed(range(sequences)))

    def add(self) -> CachedSequence:
        """A new, empty sequence.

        Raises:
            ValueError: there are as many sequences as the cache takes.
        """
        if not self._numbers:
            raise ValueError("the KV cache has no room for another sequence")
        number = self._numbers.pop()
        row = self._tables.page_table[number]
        return CachedSequence(self.pool, number, row, self.geometry.page_size)

    def remove(self, sequence: CachedSequence) -> None:
        """Forget a sequence, but for what is remembered of it."""
        sequence.truncate(0)
        self._numbers.append(sequence.number)

    @property
    def has_row(self) -> bool:
        """Whether there is room for another sequence in the tables."""
        return bool(self._numbers)

    def fits(self, sequence: CachedSequence, length: int, spare: int) -> bool:
        """Whether there are pages for a sequence to grow.

        Args:
            sequence: the sequence.
            length: to how many tokens.
            spare: how many pages must be left.
        """
        missing = -(-length // self.geometry.page_size) - len(sequence.pages)
        return missing + spare <= self.pool.available

    def remember(self, sequence: CachedSequence) -> None:
        """Have :meth:`attach` find the full pages of a sequence, while nothing else needs them."""
        if self._recycled != 0:
            self._prefixes.remember(sequence, self.pool)

    def recycle(self, sequence: CachedSequence) -> None:
        """Forget a sequence, and remember all that it holds, while nothing else needs its pages."""
        if self._recycled != 0:
            self._prefixes.remember(sequence, self.pool, partial=True)
        last = sequence.known[-1] if sequence.known else None
        self.remove(sequence)
        if last is None or self._recycled is None:
            return
        self._ended.pop(last, None)
        self._ended[last] = None
        while len(self._ended) > self._recycled:
            self._forget_ended(next(iter(self._ended)))

    def _forget_ended(self, last: int) -> None:
        """Forget the pages of a sequence that ended, but for those that others need."""
        del self._ended[last]
        for page in self._prefixes.ending(last):
            if self.pool.users(page):
                break
            self.pool.forget(page)

    def count(self, tokens: Sequence[int], phases: Sequence[int]) -> int:
        """How many tokens of a prompt :meth:`attach` would find."""
        found = self._prefixes.find(tokens, phases)
        return len(found.pages) * self.geometry.page_size + found.tokens

    def forget(self) -> None:
        """Forget what is remembered; the pages stay with the sequences that use them."""
        for page in self._prefixes.pages:
            self.pool.forget(page)

    def attach(
        self, sequence: CachedSequence, tokens: Sequence[int], phases: Sequence[int]
    ) -> None:
        """Make an empty sequence hold what is remembered of the beginning of a prompt.

        Args:
            sequence: the sequence.
            tokens: the prompt.
            phases: the phase in which each token must be computed.
        """
        found = self._prefixes.find(tokens, phases)
        for known in found.pages:
            sequence.share(known.page, known.number, *known.content)
        if found.part is not None:
            held, held_phases = found.part.content
            self._copy_part(
                sequence, found.part.page, held[: found.tokens], held_phases[: found.tokens]
            )

    def _copy_part(
        self, sequence: CachedSequence, page: int, tokens: Sequence[int], phases: bytes
    ) -> None:
        """Append the first tokens of a page, unless there is no room to copy it."""
        self.pool.share(page)  # or it might be the one that is taken
        try:
            sequence.reserve(len(sequence) + len(tokens))
        except OutOfPages:
            return
        finally:
            self.pool.release(page)
        source, target = page, sequence.pages[-1]
        for layer in range(len(self.pages)):
            self._view(layer, target, 1).copyfrom(self._view(layer, source, 1))
        sequence.adopt(tokens, phases)

    def prepare(self, runs: Sequence[Run], starts: bool) -> tuple[Any, ...]:
        """Reserve pages for what a pass appends, and write its tables.

        Args:
            runs: the tokens.
            starts: whether the pass takes the table of where runs start, as a prefill does.

        Returns:
            The tables, as the library's functions take them; valid until the next pass.

        Raises:
            OutOfPages: there are not enough pages; nothing was appended.
        """
        for run in runs:
            run.sequence.reserve(len(run.sequence) + len(run.tokens))
        return self._tables.write(runs, starts, self.pool.changes)

    def read_pages(self, layer: int, numbers: Sequence[int]) -> Words:
        """A copy of some pages of a layer: (len(numbers), *page shape).

        Args:
            layer: which of :attr:`pages`.
            numbers: the pages.
        """
        if self._on_host:
            pages: Any = np.from_dlpack(self._view(layer, 0, self.pool.count))
            return pages[[*numbers]]
        words = np.empty((len(numbers), *self.pages[layer].shape[1:]), self.word)
        for begin, first, count in _consecutive(numbers):
            words[begin : begin + count] = self._view(layer, first, count).numpy()
        return words

    def write_pages(self, layer: int, numbers: Sequence[int], words: Words) -> None:
        """Overwrite some pages of a layer; the arguments are those of :meth:`read_pages`."""
        if self._on_host:
            np.from_dlpack(self._view(layer, 0, self.pool.count))[[*numbers]] = words
            return
        for begin, first, count in _consecutive(numbers):
            self._view(layer, first, count).copyfrom(words[begin : begin + count])

    @property
    def word(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of :data:`Words`."""
        return np.dtype(f"uint{8 * self.geometry.item_size}")

    def _view(self, layer: int, first: int, count: int) -> Any:
        """Consecutive pages of a layer as a tensor of words."""
        pages, word = self.pages[layer], self.word
        shape = (count, *pages.shape[1:])
        return pages._create_view(shape, word.name, first * prod(shape[1:]) * word.itemsize)


def _consecutive(numbers: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Runs of consecutive numbers: (where a run begins, its first number, how many)."""
    begin = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            yield begin, numbers[begin], end - begin
            begin = end
