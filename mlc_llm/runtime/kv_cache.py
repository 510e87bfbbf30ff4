"""The KV cache: tensors of pages, and the tables with which the model's functions find them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.runtime.page_pool import PagePool
from mlc_llm.runtime.placement import on_host
from mlc_llm.runtime.sequence import CachedSequence

if TYPE_CHECKING:
    import tvm

_BYTES = np.dtype(np.int32).itemsize


Words = npt.NDArray[np.unsignedinteger]
"""Keys and values, each number's bits as an unsigned integer: NumPy has no bfloat16."""


class Run(NamedTuple):
    """Tokens that a pass appends to a sequence."""

    sequence: CachedSequence
    tokens: Sequence[int]


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


class PassTables:
    """The int32 tables of a pass, in one tensor that is allocated once and written in place.

    The rows' positions come first, since plain operators take only what begins its storage; then
    their sequences, where runs start, and the page table. On a device with memory of its own, what
    has changed is uploaded in one copy.

    Args:
        sequences: rows of the page table.
        pages: its columns.
        rows: most rows of a pass.
        device: where the tables are.

    Attributes:
        page_table: (sequences, pages), to be written to.
    """

    def __init__(self, sequences: int, pages: int, rows: int, device: tvm.runtime.Device) -> None:
        from tvm.runtime import empty

        self._begin = 3 * rows + 1  # of the page table
        self._tensor = empty((self._begin + sequences * pages,), "int32", device)
        self._on_host = on_host(device)
        words = self._tensor.shape[0]
        self._host = np.from_dlpack(self._tensor) if self._on_host else np.zeros(words, np.int32)
        self._host[:] = 0
        self.page_table = self._host[self._begin :].reshape(sequences, pages)
        self._page_table = self._view(self._begin, sequences, pages)
        self._rows = self._host[: self._begin]
        self._uploaded = -1  # The pool's changes that the device's page table has.
        # Those of single rows, which come again and again. To keep those of prompts' many lengths
        # would leave small blocks of memory between large ones, which then cannot be given back.
        self._row_views = lru_cache(maxsize=64)(self._make_views)

    def write(self, runs: Sequence[Run], starts: bool, changes: int) -> tuple[Any, ...]:
        """Write the rows of a pass; returns the views that the library's functions take.

        Args:
            runs: the tokens of the pass.
            starts: whether where runs start is among the tables.
            changes: the page pool's; the page table is uploaded when they are others than before.
        """
        if len(runs) == 1 and len(runs[0].tokens) == 1:
            rows, (sequence, _) = 1, runs[0]
            self._rows[0], self._rows[1] = len(sequence), sequence.number
            ends: Iterable[int] = (1,)
        else:
            rows, ends = self._write_rows(runs)
        if starts:
            parts = len(runs)
            self._rows[2 * rows] = 0
            self._rows[2 * rows + 1 : 2 * rows + 1 + parts] = [*ends]
            views, used = self._make_views(rows, parts)
        else:
            views, used = self._row_views(rows)
        if not self._on_host:
            self._upload(used, changes)
        return views

    def _write_rows(self, runs: Sequence[Run]) -> tuple[int, list[int]]:
        """Positions and sequences of all rows; returns their number, and where each run ends."""
        counts = [len(run.tokens) for run in runs]
        rows, ends = sum(counts), np.cumsum(counts).tolist()
        positions, sequences = self._rows[:rows], self._rows[rows : 2 * rows]
        for run, count, end in zip(runs, counts, ends, strict=True):
            first = len(run.sequence)
            positions[end - count : end] = np.arange(first, first + count)
            sequences[end - count : end] = run.sequence.number
        return rows, ends

    def _make_views(self, rows: int, parts: int = 0) -> tuple[tuple[Any, ...], int]:
        """The tables of a pass as tensors, and the words that they take before the page table."""
        positions, sequences = self._view(0, rows), self._view(rows, rows)
        views = (positions, sequences, self._page_table)
        if not parts:
            return views, 2 * rows
        return (*views, self._view(2 * rows, parts + 1)), 2 * rows + parts + 1

    def _view(self, begin: int, *shape: int) -> Any:
        return self._tensor._create_view(shape, "int32", begin * _BYTES)

    def _upload(self, used: int, changes: int) -> None:
        end = used if changes == self._uploaded else len(self._host)
        self._view(0, end).copyfrom(self._host[:end])
        self._uploaded = changes
