"""Where the attention kernels find keys and values, and which of them a query sees."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import KeyMask, KeySpans
from mlc_llm.plugin import PAGE_SIZE, AttentionSpec

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
    store,
)

KEY, VALUE = 0, 1


@dataclass(frozen=True)
class Tables:
    """The tables of a pass: each row's position and sequence, and the pages of the sequences."""

    positions: Buffer  # (n,)
    sequences: Buffer  # (n,)
    page_table: Buffer  # (sequences, pages of a sequence)
    starts: Buffer = None  # (parts + 1,), of a prefill

    @staticmethod
    def arguments(rows: Expr, prefill: bool = False) -> Tables:
        """Declare them; only a prefill says where its parts start."""

        def table(name: str, *shape: Expr) -> Buffer:
            return argument(name, shape, "int32", view=True)

        positions, sequences = table("positions", rows), table("sequences", rows)
        starts = table("starts", size()) if prefill else None
        return Tables(positions, sequences, table("page_table", size(), size()), starts)

    def position(self, row: Expr) -> Expr:
        """The position of a row (int64)."""
        return T.Cast("int64", self.positions[row])

    def sequence(self, row: Expr) -> Expr:
        """The sequence of a row (int64)."""
        return T.Cast("int64", self.sequences[row])

    @property
    def most_keys(self) -> Expr:
        """Keys of a sequence, at most (int64)."""
        return self.page_table.shape[1] * i64(PAGE_SIZE)


@dataclass(frozen=True)
class PageTensor:
    """The keys and values of a layer: pages (m, kv heads, PAGE_SIZE * (key size + value size))."""

    tensor: Buffer
    spec: AttentionSpec

    @staticmethod
    def argument(spec: AttentionSpec, dtype: str) -> PageTensor:
        """Declare the tensor."""
        return PageTensor(argument("pages", (size(), *spec.page_shape), dtype), spec)

    def element(self, which: Expr, slot: Expr, element: Expr) -> Expr:
        """Where an element of a key or a value is within a head's part of a page."""
        key, value = self.spec.key_size, self.spec.value_size
        return slot * (key + which * (value - key)) + element + which * (PAGE_SIZE * key)


@dataclass(frozen=True)
class Source:
    """The keys and values of one sequence and one head, a page of them at a time."""

    pages: PageTensor
    tables: Tables
    sequence: Expr
    head: Expr

    def look_up(self, page: Expr) -> Expr:
        """A page of the sequence, by its number there; emits the look-up in the table, once."""
        return bind(T.Cast("int64", self.tables.page_table[self.sequence, page]))

    def load(self, which: int, page: Expr, slot: Expr, element: Expr, lanes: int) -> Expr:
        """Elements of a key or a value as float32; `page` is what `look_up` gave."""
        at = (page, self.head, self.pages.element(which, slot, element))
        return load_f32(self.pages.tensor, at, lanes)

    def fetch(self, which: Expr, page: Expr, slot: Expr, element: Expr) -> None:
        """Ask for an element to be brought into the CPU's cache."""
        prefetch(self.pages.tensor, (page, self.head, self.pages.element(which, slot, element)))

    def copy(self, which: int, first: Expr, count: Expr, out: Buffer, lanes: int) -> None:
        """Keys or values from `first`, where a page begins, as float32 (count, size)."""
        with serial(ceil_div(count, PAGE_SIZE)) as p:
            page = self.look_up(bind(T.truncdiv(first, i64(PAGE_SIZE)) + p))
            slots = bind(T.min(count - p * PAGE_SIZE, i64(PAGE_SIZE)))
            with serial(slots) as slot, serial(int(out.shape[1]) // lanes) as i:
                value = self.load(which, page, slot, i * lanes, lanes)
                store(out, (p * PAGE_SIZE + slot, i * lanes), value, lanes)


class CPUMask(KeyMask):
    """The mask in limits of keys, which whole vectors of keys are compared with."""

    def first(self, position: Expr) -> Expr:
        """The first key, sink apart, that a query at an int64 position sees (int64)."""
        if self.window is None:
            return i64(0)
        return bind(T.max(position - (self.window - 1), i64(0)))

    def spans(self, first: Expr, end: Expr, keys: int) -> KeySpans:
        """Those of the sink, and those from key `first` up to `end` (int64)."""
        count = bind(ceil_div(end, keys))
        if self.window is None:
            return KeySpans(count, lambda i: i * keys)
        sink = bind(T.min(i64(-(-self.sink // keys)), count)) if self.sink else i64(0)
        window = T.truncdiv(first, i64(keys))
        skipped = bind(T.max(T.min(window, count) - sink, i64(0)))
        return KeySpans(
            bind(count - skipped),
            lambda i: (i + T.Select(i < sink, i64(0), skipped)) * keys,
        )

    def in_window(self, key: Expr, first: Expr, lanes: int = 1) -> Expr:
        """Whether an int32 key, or a vector of them, is in the window from `first` on or a sink."""
        seen = key >= first
        if self.sink:
            sink = i32(self.sink)
            seen = T.Or(seen, key < (sink if lanes == 1 else T.Broadcast(sink, lanes)))
        return seen
