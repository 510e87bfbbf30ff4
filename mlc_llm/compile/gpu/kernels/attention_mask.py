"""Which keys a query sees, and which of them a workgroup therefore goes over."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from mlc_llm.plugin import AttentionSpec

from .launch import Expr, bind, ceil_div, i32


@dataclass(frozen=True)
class Mask:
    """A query at position p sees the key at j if j <= p, and with a window also j > p - window or
    j < sink.

    Args:
        window: positions that a query sees, its own the last; None for all.
        sink: first positions that are seen whatever the window.
    """

    window: int | None
    sink: int

    @staticmethod
    def of(spec: AttentionSpec) -> Mask:
        """The mask of a layer."""
        return Mask(spec.window, spec.sink if spec.window is not None else 0)

    def sees(self, query: Expr, key: Expr) -> Expr:
        """Whether a query at one position sees a key at another."""
        before = key <= query
        if self.window is None:
            return before
        near = key > query - i32(self.window)
        if self.sink:
            near = T.Or(near, key < i32(self.sink))
        return T.And(before, near)


@dataclass(frozen=True)
class Chunks:
    """The runs of `size` keys, each from a multiple of `size`, that some queries see.

    What is skipped depends on the first query; a chunk that is hidden from a query changes nothing
    for it. So a query's result is the same to the bit whatever the first one is.

    Args:
        size: keys of a chunk.
        sink: chunks with keys of the sink.
        skipped: chunks after those, which lie before all windows.
        count: chunks that are left.
    """

    size: int
    sink: int
    skipped: Expr
    count: Expr

    @staticmethod
    def seen(mask: Mask, first: Expr, last: Expr, size: int) -> Chunks:
        """Those of queries at the positions `first` to `last`."""
        every = ceil_div(last + i32(1), size)
        if mask.window is None:
            return Chunks(size, 0, i32(0), bind(every))
        sink = -(-mask.sink // size)
        window = T.truncdiv(T.max(first - i32(mask.window - 1), i32(0)), i32(size))
        skipped = bind(T.max(window - i32(sink), i32(0)))
        return Chunks(size, sink, skipped, bind(every - skipped))

    def first(self, step: Expr) -> Expr:
        """The first key of a chunk."""
        skipped = self.skipped
        if self.sink:
            skipped = T.Select(step < i32(self.sink), i32(0), skipped)
        return bind((step + skipped) * i32(self.size))
