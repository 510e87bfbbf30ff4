"""Where the attention kernels find keys and values, and which of them a query sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    i32,
    i64,
    load_f32,
    prefetch,
    serial,
    size,
    splat,
    store,
)

KEY, VALUE = 0, 1
Place: TypeAlias = tuple[Expr, ...]


@dataclass(frozen=True)
class Source:
    """The keys and values of one sequence and one head.

    Args:
        length: how many there are (int64).
        find: key index -> where it is. Emits the look-up in the page table, once.
        load: (which, where it is, element, lanes) -> float32 vector. `which` is KEY or VALUE.
        fetch: (which, where it is, element): ask for it to be brought into the CPU's cache.
    """

    length: Expr
    find: Callable[[Expr], Place]
    load: Callable[[int, Place, Expr, int], Expr]
    fetch: Callable[[int, Place, Expr], None]

    def copy(self, first: Expr, count: Expr, keys: Buffer, values: Buffer, lanes: int) -> None:
        """Keys and values first .. first + count - 1 as float32, (chunk, d) each.

        Past the end the last one is repeated; no query sees it.
        """
        with serial(count) as t:
            place = self.find(bind(T.min(first + t, self.length - 1)))
            for which, copy in ((KEY, keys), (VALUE, values)):
                with serial(int(copy.shape[1]) // lanes) as i:
                    value = self.load(which, place, i * lanes, lanes)
                    store(copy, (t, i * lanes), value, lanes)


@dataclass(frozen=True)
class RaggedKeys:
    """Keys and values of all sequences one after another: k and v (t, heads, d)."""

    k: Buffer
    v: Buffer
    indptr: Buffer

    @property
    def heads(self) -> int:
        return int(self.k.shape[1])

    def of(self, b: Expr, h: Expr) -> Source:
        first = bind(T.Cast("int64", self.indptr[b]))
        length = bind(T.Cast("int64", self.indptr[b + 1]) - first)

        def find(j: Expr) -> Place:
            return (bind(first + j),)

        def read(which: int, place: Place, element: Expr, lanes: int) -> Expr:
            return load_f32((self.k, self.v)[which], (*place, h, element), lanes)

        def fetch(which: int, place: Place, element: Expr) -> None:
            prefetch((self.k, self.v)[which], (*place, h, element))

        return Source(length, find, read, fetch)


@dataclass(frozen=True)
class PagedKeys:
    """Keys and values in the pages that page_values[page_indptr[b] : page_indptr[b + 1]] lists.

    length_info[b] is the number of filled slots of the last of them.
    """

    pages: Buffer
    indptr: Buffer
    values: Buffer
    length_info: Buffer

    @staticmethod
    def arguments(pages: Buffer, batch: Expr) -> PagedKeys:
        """Declare the three tensors that describe the page table."""
        indptr = argument("page_indptr", (batch + 1,), "int32", view=True)
        values = argument("page_values", (size(),), "int32", view=True)
        length_info = argument("length_info", (batch,), "int32", view=True)
        return PagedKeys(pages, indptr, values, length_info)

    @property
    def heads(self) -> int:
        return int(self.pages.shape[2])

    def of(self, b: Expr, h: Expr) -> Source:
        page_size = self.pages.shape[3]
        first = bind(T.Cast("int64", self.indptr[b]))
        pages = bind(T.Cast("int64", self.indptr[b + 1]) - first)
        last = bind(T.Cast("int64", self.length_info[b]))
        length = bind(T.Select(pages > 0, (pages - 1) * page_size + last, i64(0)))

        def find(j: Expr) -> Place:
            page = bind(T.Cast("int64", self.values[first + T.truncdiv(j, page_size)]))
            return page, bind(T.truncmod(j, page_size))

        def read(which: int, place: Place, element: Expr, lanes: int) -> Expr:
            page, slot = place
            return load_f32(self.pages, (page, i64(which), h, slot, element), lanes)

        def fetch(which: int, place: Place, element: Expr) -> None:
            page, slot = place
            prefetch(self.pages, (page, i64(which), h, slot, element))

        return Source(length, find, read, fetch)


@dataclass(frozen=True)
class Mask:
    """Which keys a query sees.

    Args:
        window: positions that a query sees, its own the last; None for all. See `attention.py`.
        sink: first positions that are seen whatever the window.
        offset: position of the first key (int32).
        causal: run-time flag: key j of n is visible to query i of m if j <= n - m + i.
    """

    window: int | None
    sink: int
    offset: Expr
    causal: Expr = None

    def first(self, position: Expr) -> Expr:
        """The first key, sink apart, that a query at this position sees (int32)."""
        if self.window is None:
            return i32(0)
        return T.max(position - i32(self.window - 1) - self.offset, i32(0))

    def last(self, keys: Expr, queries: Expr, i: Expr) -> Expr:
        """One past the last key that query i sees (int64)."""
        if self.causal is None:
            return keys
        return T.Select(self.causal > 0, keys - queries + i + 1, keys)

    def sink_end(self) -> Expr:
        """One past the last key of the sink (int32)."""
        return i32(self.sink) - self.offset

    def sees(self, key: Expr, first: Expr, lanes: int = 1) -> Expr:
        """Whether an int32 key, or a vector of them, is in the window from `first` on or a sink."""
        seen = key >= first
        if self.has_sink:
            seen = T.Or(seen, key < splat(self.sink_end(), lanes))
        return seen

    @property
    def has_sink(self) -> bool:
        return self.window is not None and self.sink > 0
