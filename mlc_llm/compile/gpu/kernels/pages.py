"""The pages of the KV cache: where the keys and values of a token are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tvm.script.ir_builder import tirx as T

from mlc_llm.plugin import PAGE_SIZE, AttentionSpec

from .launch import Buffer, Expr, argument, bind, i32, size

PageSlot: TypeAlias = tuple[Expr, Expr]
"""A page, and a slot of it."""


@dataclass(frozen=True)
class Pages:
    """The keys and values of a layer, and the table of the pages that each sequence has.

    A page is `spec.page_shape`: for each head its keys (PAGE_SIZE, key size), then its values
    (PAGE_SIZE, value size). The token at position p of a sequence is in slot p % PAGE_SIZE of the
    page `table[sequence, p // PAGE_SIZE]`.
    """

    spec: AttentionSpec
    table: Buffer
    tensor: Buffer

    @staticmethod
    def arguments(spec: AttentionSpec, dtype: str) -> Pages:
        """Declare page_table (sequences, pages of a sequence) and pages (m, *page_shape)."""
        table = argument("page_table", (size(), size()), "int32", view=True)
        return Pages(spec, table, argument("pages", (size(), *spec.page_shape), dtype))

    def find(self, sequence: Expr, position: Expr) -> PageSlot:
        """Where a token is; emits the look-up in the table, once."""
        page = bind(self.table[sequence, T.truncdiv(position, i32(PAGE_SIZE))])
        return page, bind(T.truncmod(position, i32(PAGE_SIZE)))

    def key(self, place: PageSlot, head: Expr, element: Expr) -> tuple[Expr, ...]:
        """The index of an element of a head's key."""
        page, slot = place
        return page, head, slot * i32(self.spec.key_size) + element

    def value(self, place: PageSlot, head: Expr, element: Expr) -> tuple[Expr, ...]:
        """The index of an element of a head's value."""
        page, slot = place
        keys = i32(PAGE_SIZE * self.spec.key_size)
        return page, head, keys + slot * i32(self.spec.value_size) + element
