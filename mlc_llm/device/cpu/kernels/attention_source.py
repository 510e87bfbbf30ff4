"""Where the attention kernels find keys and values, and which of them a query sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
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
RUN = 16  # keys that lie one after another, at most
LOWEST = -5e4  # the maximum before any key; no score is as low
HIDDEN = -1e30  # the score of a key that is not seen
LOG2E = math.log2(math.e)
Place: TypeAlias = tuple[Expr, ...]


@dataclass(frozen=True)
class Source:
    """The keys and values of one sequence and one head, in runs that lie one after another.

    Args:
        length: how many there are (int64).
        run: keys of a run.
        find: number of a run -> where it is. Emits the look-up in the page table, once.
        load: (which, where the run is, key of the run, element, lanes) -> float32 vector. `which`
            is KEY or VALUE.
    """

    length: Expr
    run: int
    find: Callable[[Expr], Place]
    load: Callable[[int, Place, Expr, Expr, int], Expr]

    def copy(self, which: int, first: Expr, count: Expr, out: Buffer, lanes: int) -> None:
        """Keys or values from `first`, where a run begins, as float32 (count, d)."""
        with serial(ceil_div(count, self.run)) as r:
            place = self.find(bind(T.truncdiv(first, i64(self.run)) + r))
            keys = bind(T.min(count - r * self.run, i64(self.run)))
            with serial(keys) as key, serial(int(out.shape[1]) // lanes) as i:
                value = self.load(which, place, key, i * lanes, lanes)
                store(out, (r * self.run + key, i * lanes), value, lanes)


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

        def find(run: Expr) -> Place:
            return (bind(first + run * RUN),)

        def read(which: int, place: Place, key: Expr, element: Expr, lanes: int) -> Expr:
            return load_f32((self.k, self.v)[which], (place[0] + key, h, element), lanes)

        return Source(length, RUN, find, read)


@dataclass(frozen=True)
class PagedSource(Source):
    """A source in pages.

    Args:
        dtype: what keys and values are stored in.
        fetch: (which, where the run is, key of the run, element): ask for it to be brought into
            the CPU's cache. `which` may be an expression.
    """

    dtype: str
    fetch: Callable[[Expr, Place, Expr, Expr], None]


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

    def length(self, b: Expr) -> Expr:
        """How many keys sequence b has (int64)."""
        pages = bind(T.Cast("int64", self.indptr[b + 1] - self.indptr[b]))
        last = bind(T.Cast("int64", self.length_info[b]))
        return bind(T.Select(pages > 0, (pages - 1) * self.pages.shape[3] + last, i64(0)))

    def of(self, b: Expr, h: Expr) -> PagedSource:
        page_size = int(self.pages.shape[3])
        run = math.gcd(page_size, RUN)
        first = bind(T.Cast("int64", self.indptr[b]))

        def find(r: Expr) -> Place:
            page = self.values[first + T.truncdiv(r * run, i64(page_size))]
            slot = T.truncmod(r * run, i64(page_size)) if run < page_size else i64(0)
            return bind(T.Cast("int64", page)), slot

        def read(which: int, place: Place, key: Expr, element: Expr, lanes: int) -> Expr:
            page, slot = place
            return load_f32(self.pages, (page, i64(which), h, slot + key, element), lanes)

        def fetch(which: Expr, place: Place, key: Expr, element: Expr) -> None:
            page, slot = place
            prefetch(self.pages, (page, which, h, slot + key, element))

        return PagedSource(self.length(b), run, find, read, self.pages.dtype, fetch)


@dataclass(frozen=True)
class Spans:
    """The spans of equally many keys that have a visible one.

    Args:
        count: how many (int64).
        first: number of a span -> its first key (int64).
    """

    count: Expr
    first: Callable[[Expr], Expr]


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
        return bind(T.max(position - i32(self.window - 1) - self.offset, i32(0)))

    def last(self, keys: Expr, queries: Expr, i: Expr) -> Expr:
        """One past the last key that query i sees (int64)."""
        if self.causal is None:
            return keys
        return T.Select(self.causal > 0, T.min(keys - queries + i + 1, keys), keys)

    def spans(self, first: Expr, end: Expr, keys: int) -> Spans:
        """Those of the sink, and those from key `first` (int32) up to `end` (int64)."""
        count = bind(ceil_div(T.max(end, i64(0)), keys))
        if self.window is None:
            return Spans(count, lambda i: i * keys)
        sink = i64(0)
        if self.has_sink:
            sink_end = T.max(T.Cast("int64", self.sink_end()), i64(0))
            sink = bind(T.min(ceil_div(sink_end, keys), count))
        window = T.truncdiv(T.Cast("int64", first), i64(keys))
        skipped = bind(T.max(T.min(window, count) - sink, i64(0)))
        return Spans(
            bind(count - skipped),
            lambda i: (i + T.Select(i < sink, i64(0), skipped)) * keys,
        )

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
