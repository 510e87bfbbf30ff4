"""Attention over the pages of the KV cache: single tokens (decode) and many tokens (prefill).

The arguments are those of `mlc_llm.plugin.AttentionKernels`. What a workgroup computes is the same
for one token and for many: see `attention_tile.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.plugin import AttentionSpec

from .attention_tile import MOST_ROWS, Tile, TileRows, attend
from .launch import Buffer, Expr, argument, bind, ceil_div, i32, kernel, launch, size
from .pages import Pages


@cache
def decode(
    spec: AttentionSpec, dtype: str, activation_dtype: str, threads: int, memory: int
) -> PrimFunc:
    """`AttentionKernels.decode`: rows that are tokens by themselves.

    Arguments of the kernel: qkv (n, qkv_width), of which the queries are read; positions (n,),
    sequences (n,), page_table, pages, sinks (query_heads,) if the layer has them,
    out (n, out_width).

    Args:
        spec: how the layer attends.
        dtype: dtype of the pages.
        activation_dtype: dtype of qkv and out.
        threads: threads of a workgroup, a power of two.
        memory: bytes of its memory.
    """
    tile = Tile.fitting(spec, spec.group, threads, memory)
    with kernel("attention_decode") as built:
        given = AttentionArguments.declare(spec, dtype, activation_dtype, prefill=False)
        tiles = -(-spec.group // tile.rows)
        grid = [given.tokens * i32(spec.kv_heads), size(tiles)]
        with launch(grid, threads) as ((task, place), thread):
            row, head = _task(task, spec)
            rows = given.rows(tile, row, i32(1), head, place, single=True)
            attend(tile, rows, given.pages, given.sinks, thread)
    return built.get()


@cache
def prefill(
    spec: AttentionSpec, dtype: str, activation_dtype: str, threads: int, memory: int
) -> PrimFunc:
    """`AttentionKernels.prefill`: many tokens of each of b sequences.

    Arguments of the kernel: those of `decode`, with starts (b + 1,) after sequences. A sequence may
    have no tokens.
    """
    tile = Tile.fitting(spec, MOST_ROWS, threads, memory)
    with kernel("attention_prefill") as built:
        given = AttentionArguments.declare(spec, dtype, activation_dtype, prefill=True)
        parts = given.starts.shape[0] - i32(1)
        tiles = ceil_div(given.tokens * i32(spec.group), tile.rows)
        with launch([tiles, parts * i32(spec.kv_heads)], threads) as ((place, task), thread):
            part, head = _task(task, spec)
            first = bind(given.starts[part])
            count = bind(given.starts[part + i32(1)] - first)
            single = spec.group % tile.rows == 0
            rows = given.rows(tile, first, count, head, place, single)
            attend(tile, rows, given.pages, given.sinks, thread)
    return built.get()


def _task(task: Expr, spec: AttentionSpec) -> tuple[Expr, Expr]:
    """A row or part, and a key head, of which each workgroup has one."""
    heads = i32(spec.kv_heads)
    return bind(T.truncdiv(task, heads)), bind(T.truncmod(task, heads))


@dataclass(frozen=True)
class AttentionArguments:
    """The arguments of a kernel; `starts` and `sinks` are None where it has none."""

    spec: AttentionSpec
    qkv: Buffer
    positions: Buffer
    sequences: Buffer
    starts: Buffer
    pages: Pages
    sinks: Buffer
    out: Buffer

    @staticmethod
    def declare(
        spec: AttentionSpec, dtype: str, activation_dtype: str, prefill: bool
    ) -> AttentionArguments:
        """Declare them, in the kernels' order."""
        n = size()
        return AttentionArguments(
            spec,
            qkv=argument("qkv", (n, spec.qkv_width), activation_dtype),
            positions=argument("positions", (n,), "int32", view=True),
            sequences=argument("sequences", (n,), "int32", view=True),
            starts=argument("starts", (size(),), "int32", view=True) if prefill else None,
            pages=Pages.arguments(spec, dtype),
            sinks=argument("sinks", (spec.query_heads,)) if spec.sink_logits else None,
            out=argument("out", (n, spec.out_width), activation_dtype),
        )

    @property
    def tokens(self) -> Expr:
        """Rows of all sequences."""
        return self.positions.shape[0]

    def rows(
        self, tile: Tile, first: Expr, count: Expr, head: Expr, place: Expr, single: bool
    ) -> TileRows:
        """The rows of a workgroup; see there."""
        sequence = bind(self.sequences[T.min(first, self.tokens - i32(1))])
        tensors = (self.qkv, self.positions, self.out)
        return TileRows(*tensors, first, count, sequence, head, place, tile.rows, self.spec, single)
