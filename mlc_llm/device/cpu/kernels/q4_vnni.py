"""4-bit linear layers on 512-bit int8 dot products (`vpdpbusd`). Layout: see `q4_linear.py`.

The activations of a group of 32 become integers q with one scale d = max|x| / limit, x ~ q * d:

    "a8":   limit = 127, q is one int8. Error 5e-3.
    "a16":  limit = 16256 = 127 * 128, q = 128 * h + l with two int8, h = (q + 64) >> 7. Error 4e-5.

`vpdpbusd` adds four products of an unsigned code and a signed activation to each of 16 int32
lanes, one lane a row: eight of them make a group of 16 rows. The accumulator of l (or of the only
term) starts at -7 * sum(q); 128 * H + L, below 2^24, is exact as a float32, and then

    y[r] += (128 * H + L)[r] * (S[r] * d)

The prefill takes 8 tokens at a time through the same body, so that a nibble is unpacked once for
eight; tokens go in chunks of 128, whose int8 form stays in the cache while the weights pass by.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import ROWS, copy_row, store_block
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    f32,
    fold_max,
    i32,
    i64,
    kernel,
    load,
    load_f32,
    parallel,
    prefetch,
    scratch,
    serial,
    size,
    splat,
    store,
    when,
)

GROUP = 32
TILE = 8  # tokens that share an unpacked weight
CHUNK = 128  # tokens quantised at a time
_PREFETCH = 1024  # bytes ahead

_LIMIT = {"a8": 127, "a16": 16256}
_TERMS = {"a8": 1, "a16": 2}


@dataclass(frozen=True)
class _Rounded:
    """Activations as integers, `rows` tokens interleaved in tiles of `tile`.

    q (rows / tile, groups, tile, 32 * terms) int8, h before l; scale and bias = -7 * sum(q)
    (rows / tile, groups, tile).
    """

    tile: int
    terms: int
    limit: int
    q: Buffer
    scale: Buffer
    bias: Buffer

    @staticmethod
    def allocate(rows: int, tile: int, groups: int, activations: str) -> _Rounded:
        terms, shape = _TERMS[activations], (rows // tile, groups, tile)
        return _Rounded(
            tile,
            terms,
            _LIMIT[activations],
            scratch((*shape, GROUP * terms), "int8"),
            scratch(shape),
            scratch(shape, "int32"),
        )

    def put(self, row: Expr, g: Expr, x: list[Expr]) -> None:
        """Round one group, given as two vectors of 16."""
        place = (bind(T.truncdiv(row, i64(self.tile))), g, bind(T.truncmod(row, i64(self.tile))))
        top = bind(fold_max(T.max(T.fabs(x[0]), T.fabs(x[1])), 16))
        inverse = bind(T.Select(top > f32(0), f32(self.limit) / top, f32(0)))
        q = [bind(_nearest(v * splat(inverse, 16))) for v in x]
        for i in range(2):
            high = q[i]
            if self.terms == 2:
                high = bind(T.shift_right(q[i] + splat(i32(64), 16), splat(i32(7), 16)))
                low = q[i] - high * splat(i32(128), 16)
                store(self.q, (*place, i64(GROUP + 16 * i)), T.Cast("int8x16", low), 16)
            store(self.q, (*place, i64(16 * i)), T.Cast("int8x16", high), 16)
        total = T.call_llvm_pure_intrin("int32", "llvm.vector.reduce.add.v16i32", q[0] + q[1])
        T.buffer_store(self.scale, top * f32(1.0 / self.limit), list(place))
        T.buffer_store(self.bias, total * -7, list(place))

    def four(self, t: Expr, g: Expr, token: int, term: int, step: int) -> Expr:
        """Activations 4 * step .. 4 * step + 3 of a term, as one int32 in all lanes."""
        place = (t, g, i64(token), i64(term * GROUP + 4 * step))
        return splat(T.reinterpret("int32", load(self.q, place, 4)), 16)


def _nearest(x: Expr) -> Expr:
    return T.Cast("int32x16", T.call_llvm_pure_intrin("float32x16", "llvm.rint.v16f32", x))


def q4_linear_vnni(
    n: int | None,
    k: int,
    m: int | None,
    scale_dtype: str,
    x_dtype: str,
    out_dtype: str,
    activations: str,
) -> PrimFunc:
    """`q4_linear` for a CPU with AVX512-VNNI."""
    groups = -(-k // GROUP)
    with kernel(f"q4_linear_vnni_{activations}") as built:
        tokens = size(m)
        blocks = size(None if n is None else 2 * -(-n // (2 * ROWS)))
        x = argument("x", (tokens, k), x_dtype)
        w = argument("w", (blocks, groups, 4, 64), "uint8")
        s = argument("s", (blocks, groups, ROWS), scale_dtype)
        y = argument("y", (tokens, blocks * ROWS if n is None else n), out_dtype)
        if m == 1:
            rounded = _Rounded.allocate(1, 1, groups, activations)
            _round_row(rounded, x, i64(0), i64(0), k)
            with parallel(T.truncdiv(blocks, i64(2))) as pair:
                _one_token(rounded, w, s, y, pair, n)
        else:
            rounded = _Rounded.allocate(CHUNK, TILE, groups, activations)
            with serial(ceil_div(tokens, CHUNK)) as chunk:
                first = bind(chunk * CHUNK)
                here = bind(T.min(tokens - first, i64(CHUNK)))
                with parallel(here) as row:
                    _round_row(rounded, x, first + row, row, k)
                with parallel(blocks) as block, serial(ceil_div(here, TILE)) as t:
                    _tile_of_tokens(rounded, w, s, y, block, t, first, n)
    return built.get()


def _round_row(rounded: _Rounded, x: Buffer, token: Expr, row: Expr, k: int) -> None:
    groups = -(-k // GROUP)
    if k % GROUP:  # a copy that ends with whole groups
        padded = scratch((1, groups * GROUP))
        copy_row(x, token, k, padded, i64(0), 16)
        x, token = padded, i64(0)
    with serial(groups) as g:
        rounded.put(row, g, [bind(load_f32(x, (token, g * GROUP + 16 * i), 16)) for i in range(2)])


def _one_token(
    rounded: _Rounded, w: Buffer, s: Buffer, y: Buffer, pair: Expr, n: int | None
) -> None:
    zero = i64(0)
    blocks = [bind(pair * 2 + i) for i in range(2)]
    sums = [Accumulator(16) for _ in blocks]
    with serial(w.shape[1]) as g:
        scale, bias = bind(rounded.scale[zero, g, zero]), bind(rounded.bias[zero, g, zero])
        x = [
            [bind(rounded.four(zero, g, 0, term, step)) for step in range(8)]
            for term in range(rounded.terms)
        ]
        for block, total in zip(blocks, sums, strict=True):
            for c in range(4):
                prefetch(w, (block, g, i64(c), i64(_PREFETCH)))
            terms = _start(bias, rounded.terms)
            for c in range(4):
                for half, codes in enumerate(_nibbles(w, block, g, c)):
                    for term in range(rounded.terms):
                        terms[term] = _dot(terms[term], codes, x[term][4 * half + c])
            row_scale = bind(load_f32(s, (block, g, zero), 16))
            total.add(_joined(terms) * (row_scale * splat(scale, 16)))
    for block, total in zip(blocks, sums, strict=True):
        store_block(y, zero, block, [total.get()], n)


def _tile_of_tokens(
    rounded: _Rounded,
    w: Buffer,
    s: Buffer,
    y: Buffer,
    block: Expr,
    t: Expr,
    first: Expr,
    n: int | None,
) -> None:
    sums = [Accumulator(16) for _ in range(TILE)]
    with serial(w.shape[1]) as g:
        row_scale = bind(load_f32(s, (block, g, i64(0)), 16))
        terms = [_start(rounded.bias[t, g, i64(m)], rounded.terms) for m in range(TILE)]
        for c in range(4):
            for half, codes in enumerate(_nibbles(w, block, g, c)):
                for m in range(TILE):
                    for term in range(rounded.terms):
                        four = rounded.four(t, g, m, term, 4 * half + c)
                        terms[m][term] = _dot(terms[m][term], codes, four)
        for m in range(TILE):
            scale = splat(rounded.scale[t, g, i64(m)], 16)
            sums[m].add(_joined(terms[m]) * (row_scale * scale))
    for m in range(TILE):
        token = bind(first + t * TILE + m)
        with when(token < y.shape[0]):
            store_block(y, token, block, [sums[m].get()], n)


def _start(bias: Expr, terms: int) -> list[Expr]:
    """Accumulators of the terms: the last one carries the bias."""
    return [bind(splat(i32(0), 16)) for _ in range(terms - 1)] + [bind(splat(bias, 16))]


def _nibbles(w: Buffer, block: Expr, g: Expr, c: int) -> list[Expr]:
    """The low and the high codes of 64 bytes."""
    bytes_ = bind(load(w, (block, g, i64(c), i64(0)), 64))
    mask = splat(T.uint8(15), 64)
    words = T.shift_right(T.reinterpret("uint32x16", bytes_), splat(T.uint32(4), 16))
    return [bind(bytes_ & mask), bind(T.reinterpret("uint8x64", words) & mask)]


def _dot(total: Expr, codes: Expr, activations: Expr) -> Expr:
    """total + four products a lane."""
    signed = [T.reinterpret("int8x64", v) for v in (codes, activations)]
    name = "llvm.x86.avx512.vpdpbusd.512"
    return bind(T.call_llvm_pure_intrin("int32x16", name, total, *signed))


def _joined(terms: list[Expr]) -> Expr:
    """The integer sum of a group as float32."""
    total = terms[0]
    if len(terms) == 2:
        total = T.shift_left(total, splat(i32(7), 16)) + terms[1]
    return T.Cast("float32x16", total)
