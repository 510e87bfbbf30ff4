"""From the stored layout of a weight to the packed one, once, when a model is loaded.

The stored layout is described by `Scheme`, the packed one in `group_layout.py`. Codes are copied
as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.plugin.scheme import Scheme

from .blocks import BLOCK_ROWS, blocks_of
from .group_layout import PackedTensors, Part
from .vector import Buffer, Expr, argument, bind, i64, kernel, parallel, serial, size, store


@cache
def repack(part: Part, k: int) -> PrimFunc:
    """The packed layout of a stored weight of k columns.

    Arguments of the kernel: q_weight, q_scale and, where the scheme has minimums, q_min; then the
    packed tensors. Rows that the part does not know are taken from the tensors.
    """
    scheme = part.scheme
    groups, words = scheme.groups(k), scheme.group // scheme.codes_per_word
    with kernel("repack") as built:
        rows = size(part.rows)
        blocks = blocks_of(part.rows, rows)
        q_weight = _stored("q_weight", scheme, rows, groups * words, scheme.storage)
        names = ["q_scale", "q_min"] if scheme.has_minimum else ["q_scale"]
        stored = [_stored(name, scheme, rows, groups, scheme.dtype) for name in names]
        packed = PackedTensors.arguments(part, k, blocks)
        zero = T.Cast(scheme.dtype, T.float32(0))
        with parallel(blocks) as b, serial(groups) as g, serial(BLOCK_ROWS) as i:
            row = bind(b * BLOCK_ROWS + i)
            source = bind(T.min(row, rows - 1))  # what a padded row's codes are copied from
            for given, taken in zip(stored, packed.factors, strict=True):
                value = T.Select(row < rows, _element(given, scheme, source, g), zero)
                T.buffer_store(taken, value, [b, g, i])
            group = [
                bind(_element(q_weight, scheme, source, g * words + word)) for word in range(words)
            ]
            for c in range(part.chunks):
                store(packed.codes, (b, g, i64(c), 4 * i), _packed(group, part, c), 4)
    return built.get()


def _stored(name: str, scheme: Scheme, rows: Expr, width: int, dtype: str) -> Buffer:
    shape = (rows, i64(width))
    return argument(name, shape if scheme.layout == "rows" else shape[::-1], dtype)


def _element(stored: Buffer, scheme: Scheme, row: Expr, column: Expr) -> Expr:
    return stored[row, column] if scheme.layout == "rows" else stored[column, row]


def _packed(group: Sequence[Expr], part: Part, c: int) -> Expr:
    """The four bytes c of a row's group, whose words these are."""
    four = _four(group, part.scheme.bits, 4 * c)
    if part.nibbles:
        high = _four(group, part.scheme.bits, part.scheme.group // 2 + 4 * c)
        four = four | T.shift_left(high, T.uint32(4))
    return T.reinterpret("uint8x4", four)


def _four(group: Sequence[Expr], bits: int, first: int) -> Expr:
    """The four codes from number `first` on, a byte each."""
    per_word = 32 // bits
    if bits == 8:
        return group[first // 4]
    if bits == 4:
        return _spread(T.shift_right(group[first // 8], T.uint32(first % 8 * 4)))
    places = [divmod(number, per_word) for number in range(first, first + 4)]
    codes = [
        T.shift_right(group[word], T.uint32(bits * place)) & T.uint32(2**bits - 1)
        for word, place in places
    ]
    four = codes[0]
    for j, code in enumerate(codes[1:], 1):
        four = four | T.shift_left(code, T.uint32(8 * j))
    return bind(four)


def _spread(codes: Expr) -> Expr:
    """Four codes in the lower 16 bits -> one code a byte."""
    x = bind(codes & T.uint32(0xFFFF))
    x = bind((x | T.shift_left(x, T.uint32(8))) & T.uint32(0x00FF00FF))
    return bind((x | T.shift_left(x, T.uint32(4))) & T.uint32(0x0F0F0F0F))
