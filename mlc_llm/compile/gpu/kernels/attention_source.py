"""Where the attention kernels find keys and values, and which of them a query sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from .launch import Buffer, Expr, argument, bind, i32, load_f32, size

KEY, VALUE = 0, 1
Place: TypeAlias = tuple[Expr, ...]


class Source(ABC):
    """The keys and values of one sequence and one head.

    Attributes:
        length: how many there are.
    """

    length: Expr

    @abstractmethod
    def find(self, key: Expr) -> Place:
        """Where a key is; emits the look-up in the page table, once."""

    @abstractmethod
    def load(self, which: int, place: Place, element: Expr) -> Expr:
        """An element as float32. `which` is KEY or VALUE."""


class RaggedSource(Source):
    """Keys and values of all sequences one after another: k and v (t, heads, d)."""

    def __init__(self, k: Buffer, v: Buffer, indptr: Buffer, b: Expr, h: Expr) -> None:
        self._tensors, self._h = (k, v), h
        self._first = bind(indptr[b])
        self.length = bind(indptr[b + i32(1)] - self._first)

    def find(self, key: Expr) -> Place:
        return (bind(self._first + key),)

    def load(self, which: int, place: Place, element: Expr) -> Expr:
        return load_f32(self._tensors[which], (*place, self._h, element))


@dataclass(frozen=True)
class PageTable:
    """The pages page_values[page_indptr[b] : page_indptr[b + 1]] of each sequence.

    length_info[b] is the number of filled slots of the last of them.
    """

    pages: Buffer
    indptr: Buffer
    values: Buffer
    length_info: Buffer

    @staticmethod
    def arguments(pages: Buffer, batch: Expr) -> PageTable:
        """Declare the three tensors that describe the page table."""
        indptr = argument("page_indptr", (batch + 1,), "int32", view=True)
        values = argument("page_values", (size(),), "int32", view=True)
        length_info = argument("length_info", (batch,), "int32", view=True)
        return PageTable(pages, indptr, values, length_info)


class PagedSource(Source):
    """Keys and values in a sequence's pages."""

    def __init__(self, table: PageTable, b: Expr, h: Expr) -> None:
        self._table, self._h = table, h
        self._first = bind(table.indptr[b])
        pages = bind(table.indptr[b + i32(1)] - self._first)
        full = (pages - i32(1)) * table.pages.shape[3]
        self.length = bind(T.Select(pages > i32(0), full + table.length_info[b], i32(0)))

    def find(self, key: Expr) -> Place:
        page_size = self._table.pages.shape[3]
        page = bind(self._table.values[self._first + T.truncdiv(key, page_size)])
        return page, bind(T.truncmod(key, page_size))

    def load(self, which: int, place: Place, element: Expr) -> Expr:
        page, slot = place
        return load_f32(self._table.pages, (page, i32(which), self._h, slot, element))


@dataclass(frozen=True)
class Visibility:
    """Which keys the queries of a sequence see.

    With `window` a query at position p sees the keys at positions p - window < j <= p, and those of
    the first `sink` positions.

    Args:
        window: positions that a query sees, its own the last; None for all.
        sink: first positions that are seen whatever the window.
        offset: position of the first key.
        causal: run-time flag: key j of n is visible to query i of m if j <= n - m + i; None: no.
        positions: positions of all queries.
    """

    window: int | None
    sink: int
    offset: Buffer
    positions: Buffer
    causal: Expr | None = None

    def first(self, b: Expr, query: Expr) -> Expr:
        """The first key, sink apart, that a query sees."""
        if self.window is None:
            return i32(0)
        begin = self.positions[query] - i32(self.window - 1) - self.offset[b]
        return T.max(begin, i32(0))

    def end(self, keys: Expr, queries: Expr, i: Expr) -> Expr:
        """One past the last key that query i of a sequence sees."""
        if self.causal is None:
            return keys
        limit = T.min(T.max(keys - queries + i + i32(1), i32(0)), keys)
        return T.Select(self.causal > i32(0), limit, keys)

    @property
    def has_sink(self) -> bool:
        """Whether keys before the window may be seen."""
        return self.window is not None and self.sink > 0

    def sees(self, b: Expr, key: Expr, first: Expr, end: Expr) -> Expr:
        """Whether a query whose window begins at key `first`, and ends before `end`, sees a key."""
        if self.window is None:
            return key < end
        in_window = key >= first
        if self.has_sink:
            in_window = T.Or(in_window, key < i32(self.sink) - self.offset[b])
        return T.And(key < end, in_window)
