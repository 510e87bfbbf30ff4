"""The KV cache: tensors of pages, and which sequence has which of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.device_memory import on_host
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.runtime.page_pool import PagePool
from mlc_llm.runtime.pass_tables import PassTables
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
    ) -> None:
        from tvm.runtime import empty

        self.geometry = geometry
        per_sequence = -(-length // geometry.page_size)
        total = sequences * per_sequence if tokens is None else -(-tokens // geometry.page_size)
        self.pool = PagePool(total)
        shapes = geometry.page_shapes
        self.pages = [empty((self.pool.count, *s), geometry.dtype, device) for s in shapes]
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

    def fork(self, sequence: CachedSequence, length: int) -> CachedSequence:
        """A new sequence that shares the first tokens of another: those that fill whole pages."""
        child = self.add()
        child.share(sequence, length)
        return child

    def remove(self, sequence: CachedSequence) -> None:
        """Forget a sequence."""
        sequence.truncate(0)
        self._numbers.append(sequence.number)

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
