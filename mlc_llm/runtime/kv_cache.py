"""The KV cache: tensors of pages, and the tables with which the model's functions find them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.runtime.page_pool import PagePool
from mlc_llm.runtime.placement import on_host
from mlc_llm.runtime.sequence import CachedSequence

if TYPE_CHECKING:
    import tvm

_BYTES = np.dtype(np.int32).itemsize


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

        per_sequence = -(-length // geometry.page_size)
        total = sequences * per_sequence if tokens is None else -(-tokens // geometry.page_size)
        self.pool = PagePool(total)
        shapes = geometry.page_shapes
        self.pages = [empty((self.pool.count, *s), geometry.dtype, device) for s in shapes]
        self._tables = PassTables(sequences, per_sequence, rows, device)
        self._page_size = geometry.page_size
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
        return CachedSequence(self.pool, number, row, self._page_size)

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


class PassTables:
    """The int32 tables of a pass, in one tensor that is allocated once and written in place.

    The page table comes first, then the rows' positions and sequences, and where runs start. On a
    device with memory of its own, what has changed is uploaded in one copy.

    Args:
        sequences: rows of the page table.
        pages: its columns.
        rows: most rows of a pass.
        device: where the tables are.

    Attributes:
        page_table: (sequences, pages), to be written to.
    """

    def __init__(
        self, sequences: int, pages: int, rows: int, device: tvm.runtime.Device
    ) -> None:
        from tvm.runtime import empty

        self._begin = sequences * pages
        self._tensor = empty((self._begin + 3 * rows + 1,), "int32", device)
        self._on_host = on_host(device)
        words = self._tensor.shape[0]
        self._host = np.from_dlpack(self._tensor) if self._on_host else np.zeros(words, np.int32)
        self._host[:] = 0
        self.page_table = self._host[: self._begin].reshape(sequences, pages)
        self._page_table = self._view(0, sequences, pages)
        self._rows = self._host[self._begin :]
        self._uploaded = -1  # The pool's changes that the device's page table has.
        self._views = lru_cache(maxsize=256)(self._make_views)

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
        parts = len(runs) if starts else 0
        if starts:
            self._rows[2 * rows] = 0
            self._rows[2 * rows + 1 : 2 * rows + 1 + parts] = [*ends]
        views, used = self._views(rows, parts)
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

    def _make_views(self, rows: int, parts: int) -> tuple[tuple[Any, ...], int]:
        """The tables of a pass as tensors, and the words that they take after the page table."""
        begin = self._begin
        positions, sequences = self._view(begin, rows), self._view(begin + rows, rows)
        views = (positions, sequences, self._page_table)
        if not parts:
            return views, 2 * rows
        return (*views, self._view(begin + 2 * rows, parts + 1)), 2 * rows + parts + 1

    def _view(self, begin: int, *shape: int) -> Any:
        return self._tensor._create_view(shape, "int32", begin * _BYTES)

    def _upload(self, used: int, changes: int) -> None:
        begin = self._begin if changes == self._uploaded else 0
        end = self._begin + used
        self._view(begin, end - begin).copyfrom(self._host[begin:end])
        self._uploaded = changes
