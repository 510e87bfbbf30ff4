"""Attention over the pages of the KV cache: single tokens (decode) and many tokens (prefill).

    out = sum over visible keys j of softmax_j(score(q, k_j)) v_j

with the scores and the visible keys of `mlc_llm.plugin.AttentionSpec`, whose `AttentionKernels` has
the arguments. A logit beside the scores takes part in the softmax and has no value.

Arithmetic is float32 whatever the dtypes are; the running maximum makes any score safe. Error: 2e-6
of max |v|, and the rounding to the dtype of `out`. A row's result is the same to the bit whatever
other rows there are, and however a prompt is cut; decode and prefill sum in different orders.

With a window, spans of keys between the sink and the window are skipped.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.attention_terms import KeySpans
from mlc_llm.plugin import AttentionSpec

from .attention_decode import PIECE_KEYS, Row, attend_piece, write_piece
from .attention_pieces import Pieces, join_pieces
from .attention_prefill import attend_many
from .attention_source import CPUMask, PageTensor, Source, Tables
from .isa import Isa
from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    i64,
    kernel,
    parallel,
    scratch,
    serial,
    size,
    when,
)

_PARTS = 512
"""Pieces that are in the working memory at a time; a single row may have more."""


@cache
def decode(spec: AttentionSpec, dtype: str, x_dtype: str, isa: Isa) -> PrimFunc:
    """Rows by themselves: `AttentionKernels.decode`.

    Rows are taken some at a time. Their keys go in pieces, each a task of its own, so that one row
    can feed many threads; see `attention_decode.py`.

    Args:
        spec: how the layer attends.
        dtype: dtype of the pages.
        x_dtype: dtype of qkv and out.
        isa: what the CPU offers.
    """
    with kernel("attention_decode") as built:
        rows = size()
        qkv = argument("qkv", (rows, spec.qkv_width), x_dtype)
        tables = Tables.arguments(rows)
        pages = PageTensor.argument(spec, dtype)
        sinks = _sinks(spec)
        out = argument("out", (rows, spec.out_width), x_dtype)
        mask = CPUMask.of(spec)
        # Memory is allocated before anything is bound, so that these are expressions of sizes.
        most = ceil_div(tables.most_keys, PIECE_KEYS)  # pieces of a row
        most_rows = T.min(T.max(T.truncdiv(i64(_PARTS), most), i64(1)), rows)
        parts = scratch((most_rows * most, spec.query_heads, spec.value_size))
        parts_lse = scratch((most_rows * most, spec.query_heads))
        together = bind(most_rows)
        with serial(T.truncdiv(rows + together - 1, together)) as step:
            begin = bind(step * together)
            some = bind(T.min(rows - begin, together))

            def spans(row: Expr, begin: Expr = begin) -> tuple[Expr, KeySpans]:
                position = bind(tables.position(begin + row))
                first = mask.first(position)
                return first, mask.spans(first, position + 1, PIECE_KEYS)

            pieces = Pieces.count(some, most_rows, lambda row: spans(row)[1].count)
            with parallel(pieces.total * spec.kv_heads) as task:
                item = bind(T.truncdiv(task, i64(spec.kv_heads)))
                h = bind(T.truncmod(task, i64(spec.kv_heads)))
                number = pieces.row(item)
                row = bind(begin + number)
                first, of_row = spans(number)
                start = bind(of_row.first(item - pieces.starts[number]))
                source = Source(pages, tables, bind(tables.sequence(row)), h)
                query = Row(qkv, row, h, bind(tables.position(row)), first)
                piece = attend_piece(query, source, mask, start, isa)
                with when(pieces.alone(number)):
                    write_piece(piece, sinks, out, row, bind(h * spec.group))
                with when(T.Not(pieces.alone(number))):
                    piece.keep(parts, parts_lse, item, bind(h * spec.group))
            with when(pieces.several):
                join_pieces(pieces, parts, parts_lse, sinks, out, begin, isa)
    return built.get()


@cache
def prefill(spec: AttentionSpec, dtype: str, x_dtype: str, isa: Isa) -> PrimFunc:
    """Many tokens of each sequence: `AttentionKernels.prefill`; see `attention_prefill.py`.

    Args:
        spec: how the layer attends.
        dtype: dtype of the pages.
        x_dtype: dtype of qkv and out.
        isa: what the CPU offers.

    Raises:
        ValueError: more query heads share a key head than a tile has rows.
    """
    with kernel("attention_prefill") as built:
        rows = size()
        qkv = argument("qkv", (rows, spec.qkv_width), x_dtype)
        tables = Tables.arguments(rows, prefill=True)
        pages = PageTensor.argument(spec, dtype)
        sinks = _sinks(spec)
        out = argument("out", (rows, spec.out_width), x_dtype)
        with serial(tables.starts.shape[0] - 1) as part:
            attend_many(qkv, tables, pages, sinks, out, part, isa)
    return built.get()


def _sinks(spec: AttentionSpec) -> Buffer | None:
    """Declare the logits of the sinks, where there are any."""
    return argument("sinks", (spec.query_heads,)) if spec.sink_logits else None
