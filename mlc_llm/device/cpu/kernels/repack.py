"""From the stored layout of a weight to the packed one, once, when a model is loaded.

The stored layout is described by `Scheme`, the packed one in `group_layout.py`. Codes are copied
as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.plugin.scheme import Scheme, stored_tensors

from .blocks import BLOCK_ROWS, blocks_of
from .group_layout import PackedTensors, Part
from .vector import Buffer, Expr, argument, bind, i64, kernel, parallel, serial, size, store


@cache
def repack(part: Part, k: int) -> PrimFunc:
    """The packed layout of a stored weight of k columns.

    Arguments of the kernel: the stored tensors in the order of `stored_tensors`; then the packed
    ones. Rows that the part does not know are taken from the tensors.
    """
    scheme = part.scheme
    counts = [scheme.words(scheme.group, plane) for plane in range(len(scheme.planes))]
    with kernel("repack") as built:
        rows = size(part.rows)
        blocks = blocks_of(part.rows, rows)
        planes, stored = _stored(scheme, rows, k)
        packed = PackedTensors.arguments(part, k, blocks)
        levels = [
            level
            for factors in packed.factors
            for level in (factors.lower, factors.upper)
            if level is not None
        ]
        with parallel(blocks) as b:
            for given, taken in zip(stored, levels, strict=True):
                _copy_factors(given, taken, scheme, b, rows)
            with serial(scheme.groups(k)) as g, serial(BLOCK_ROWS) as i:
                row = bind(T.min(b * BLOCK_ROWS + i, rows - 1))  # padded rows repeat the last one
                group = [
                    [bind(_element(words, scheme, row, g * count + word)) for word in range(count)]
                    for words, count in zip(planes, counts, strict=True)
                ]
                for c in range(part.all_chunks):
                    four = _packed(group, part, c)
                    store(packed.codes, (b, g, i64(c), 4 * i), T.reinterpret("uint8x4", four), 4)
    return built.get()


def _stored(scheme: Scheme, rows: Expr, k: int) -> tuple[list[Buffer], list[Buffer]]:
    """The stored tensors: those of the codes, and the others."""
    count, buffers = len(scheme.planes), []
    for tensor in stored_tensors("x.weight", (("rows", scheme),), k):
        shape = [rows if size == "rows" else i64(size) for size in tensor.shape]
        buffers.append(argument(tensor.name.removeprefix("x."), shape, tensor.dtype))
    return buffers[:count], buffers[count:]


def _element(stored: Buffer, scheme: Scheme, row: Expr, column: Expr) -> Expr:
    return stored[row, column] if scheme.layout == "rows" else stored[column, row]


def _copy_factors(given: Buffer, taken: Buffer, scheme: Scheme, b: Expr, rows: Expr) -> None:
    """Scales, minimums, or a level of them, of block b: 0 for rows that are padded."""
    zero = T.Cast(taken.dtype, T.float32(0))
    with serial(taken.shape[1]) as place, serial(BLOCK_ROWS) as i:
        row = bind(b * BLOCK_ROWS + i)
        value = _element(given, scheme, T.min(row, rows - 1), place)
        T.buffer_store(taken, T.Select(row < rows, value, zero), [b, place, i])


def _packed(group: Sequence[Sequence[Expr]], part: Part, c: int) -> Expr:
    """The four bytes c of a row's group, whose words these are, by plane."""
    low_bits, half = part.scheme.planes[0], part.scheme.group // 2
    if c >= part.chunks:
        return _high(group[1], part, c)
    four = _four(group[0], low_bits, 4 * c)
    if part.nibbles:
        four = four | T.shift_left(_four(group[0], low_bits, half + 4 * c), T.uint32(4))
    return four


def _high(words: Sequence[Expr], part: Part, c: int) -> Expr:
    """The four bytes c where those are upper bits."""
    four = T.uint32(0)
    for chunk, nibble in product(range(part.chunks), range(2)):
        place, first = part.high(chunk, nibble)
        if place == c:
            column = part.scheme.group // 2 * nibble + 4 * chunk
            codes = _four(words, part.high_bits, column)
            four = bind(four | T.shift_left(codes, T.uint32(first)))
    return four


def _four(words: Sequence[Expr], bits: int, first: int) -> Expr:
    """The four codes from number `first` on, a byte each."""
    per_word = 32 // bits
    if bits == 8:
        return words[first // 4]
    if bits in (1, 2, 4):
        word, place = divmod(first, per_word)
        codes = T.shift_right(words[word], T.uint32(place * bits))
        return _spread(bind(codes & T.uint32((1 << (4 * bits)) - 1)), bits)
    places = [divmod(number, per_word) for number in range(first, first + 4)]
    codes = [
        T.shift_right(words[word], T.uint32(bits * place)) & T.uint32(2**bits - 1)
        for word, place in places
    ]
    four = codes[0]
    for j, code in enumerate(codes[1:], 1):
        four = four | T.shift_left(code, T.uint32(8 * j))
    return bind(four)


def _spread(codes: Expr, bits: int) -> Expr:
    """Four codes of 1, 2 or 4 bits in the lowest bits -> one code a byte."""
    pairs = T.uint32(16 - 2 * bits)
    x = bind((codes | T.shift_left(codes, pairs)) & T.uint32(0x00010001 * (4**bits - 1)))
    single = T.uint32(8 - bits)
    return bind((x | T.shift_left(x, single)) & T.uint32(0x01010101 * (2**bits - 1)))
