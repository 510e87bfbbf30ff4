"""Which keys a query sees, and which of them a workgroup therefore goes over."""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import KeyMask, KeySpans

from .launch import Expr, bind, ceil_div, i32


class GPUMask(KeyMask):
    """The mask in int32 expressions of single positions."""

    def sees(self, query: Expr, key: Expr) -> Expr:
        """Whether a query at one position sees a key at another."""
        before = key <= query
        if self.window is None:
            return before
        near = key > query - i32(self.window)
        if self.sink:
            near = T.Or(near, key < i32(self.sink))
        return T.And(before, near)

    def spans(self, first: Expr, last: Expr, keys: int) -> KeySpans:
        """Those of queries at the positions `first` to `last`."""
        every = ceil_div(last + i32(1), keys)
        if self.window is None:
            return KeySpans(bind(every), lambda span: bind(span * i32(keys)))
        sink = -(-self.sink // keys)
        window = T.truncdiv(T.max(first - i32(self.window - 1), i32(0)), i32(keys))
        skipped = bind(T.max(window - i32(sink), i32(0)))

        def first_key(span: Expr) -> Expr:
            more = T.Select(span < i32(sink), i32(0), skipped) if sink else skipped
            return bind((span + more) * i32(keys))

        return KeySpans(bind(every - skipped), first_key)
