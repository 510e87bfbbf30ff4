"""The tables with which the model's functions find the tokens of a pass and their pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlc_llm.runtime.device_memory import on_host
from mlc_llm.runtime.sequence import Run

if TYPE_CHECKING:
    import tvm

_BYTES = np.dtype(np.int32).itemsize
_MOST_KEPT = 64
"""Most rows of a decode whose views are kept."""


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
        # Only decodes' views are kept. Prompts have many lengths: their views would be small blocks
        # between large ones, which could then not be returned to the system.
        self._decode_views: dict[int, tuple[tuple[Any, ...], int]] = {}

    def write(self, runs: Sequence[Run], starts: bool, changes: int) -> tuple[Any, ...]:
        """Write the rows of a pass; returns the views that the library's functions take.

        Args:
            runs: the tokens of the pass.
            starts: whether where runs start is among the tables.
            changes: the page pool's; the page table is uploaded when they have changed.
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
            views, used = self._decode_views.get(rows) or self._make_views(rows)
            if rows <= _MOST_KEPT:
                self._decode_views[rows] = views, used
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
