"""4-bit linear layers on 512-bit integer dot products (AVX512-VNNI). Layout: see `q4_linear.py`.

The activations of a group of 32 become integers q with one scale d = max|x| / limit, x ~ q * d:

    "a16"   q is int16, limit 32767; `vpdpwssd` adds two products to each int32 lane.
    "a8"    q is int8, limit 127; `vpdpbusd` adds four. Faster in the prefill.

A lane is a row. The accumulator starts at -7 * sum(q) and takes the 32 products of a group; the
sum stays below 2^24, so that it is exact as a float32, and then

    y[r] += sum[r] * (S[r] * d)

A 32-bit lane of packed weights holds eight codes of one row, in the nibbles of four bytes. Masked
with 0x0F0F0F0F it is four 8-bit codes, with 0x000F000F two 16-bit codes (bytes 0 and 2); shifted
right first, it gives the others. The activations are stored in the order that this asks for.

The prefill takes 8 tokens at a time through the same body, so that a nibble is unpacked once for
all of them; tokens go in chunks of 128, whose integers stay in the cache while the weights pass by.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import GROUP, ROWS, block_count, copy_row, group_count, store_block
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

TILE = 8  # tokens that share an unpacked weight
CHUNK = 16 * TILE  # tokens rounded at a time
_PREFETCH = 1024  # bytes ahead


@dataclass(frozen=True)
class _Scheme:
    """How activations are rounded and multiplied.

    Args:
        dtype: of the integers.
        limit: the largest of them.
        mask: what is left of a 32-bit lane of packed weights: as many codes as it has `dtype`s.
        instruction: the dot product of a lane of codes and a lane of activations.
    """

    dtype: str
    limit: int
    mask: int
    instruction: str

    def codes(self, packed: Expr) -> list[Expr]:
        """The vectors of codes in 16 lanes of packed weights, in the order of `place`."""
        mask, shifts = (
            splat(T.uint32(self.mask), 16),
            (0, 4) if self.dtype == "int8" else (0, 4, 8, 12),
        )
        return [bind(T.shift_right(packed, splat(T.uint32(s), 16)) & mask) for s in shifts]

    def place(self, c: int, vector: int) -> int:
        """Where, among the 32-bit words of a group, the activations for a vector of codes are."""
        half, pair = vector % 2, vector // 2
        return half * 4 + c if self.dtype == "int8" else half * 8 + 2 * c + pair

    def ordered(self, q: Expr) -> Expr:
        """16 integers (int32) in the order of `place`."""
        if self.dtype == "int8":
            return T.Cast("int8x16", q)
        order = [4 * c + i for c in range(4) for i in (0, 2, 1, 3)]
        return T.Shuffle([bind(T.Cast("int16x16", q))], order)

    def dot(self, total: Expr, codes: Expr, activations: Expr) -> Expr:
        """total + the products of each lane."""
        vectors = f"{self.dtype}x{16 * self.per_word}"
        operands = [T.reinterpret(vectors, v) for v in (codes, activations)]
        return bind(T.call_llvm_pure_intrin("int32x16", self.instruction, total, *operands))

    @property
    def per_word(self) -> int:
        return 4 if self.dtype == "int8" else 2


_SCHEMES = {
    # The saturating form: nothing saturates, but LLVM splits the other into a product and a sum.
    "a16": _Scheme("int16", 32767, 0x000F000F, "llvm.x86.avx512.vpdpwssds.512"),
    "a8": _Scheme("int8", 127, 0x0F0F0F0F, "llvm.x86.avx512.vpdpbusd.512"),
}


@dataclass(frozen=True)
class _Rounded:
    """Activations as integers, tokens interleaved in tiles of `tile`.

    q (tiles, groups, tile, 32); scale and bias = -7 * sum(q), both (tiles, groups, tile).
    """

    tile: int
    scheme: _Scheme
    q: Buffer
    scale: Buffer
    bias: Buffer

    @staticmethod
    def allocate(tokens: int, tile: int, groups: int, scheme: _Scheme) -> _Rounded:
        shape = (tokens // tile, groups, tile)
        q = scratch((*shape, GROUP), scheme.dtype)
        return _Rounded(tile, scheme, q, scratch(shape), scratch(shape, "int32"))

    def put(self, row: Expr, g: Expr, x: list[Expr]) -> None:
        """Round one group, given as two vectors of 16."""
        at = (bind(T.truncdiv(row, i64(self.tile))), g, bind(T.truncmod(row, i64(self.tile))))
        top = bind(fold_max(T.max(T.fabs(x[0]), T.fabs(x[1])), 16))
        inverse = bind(T.Select(top > f32(0), f32(self.scheme.limit) / top, f32(0)))
        q = [bind(_nearest(v * splat(inverse, 16))) for v in x]
        for i in range(2):
            store(self.q, (*at, i64(16 * i)), self.scheme.ordered(q[i]), 16)
        total = T.call_llvm_pure_intrin("int32", "llvm.vector.reduce.add.v16i32", q[0] + q[1])
        T.buffer_store(self.scale, top * f32(1.0 / self.scheme.limit), list(at))
        T.buffer_store(self.bias, total * -7, list(at))

    def word(self, t: Expr, g: Expr, token: int, place: int) -> Expr:
        """A 32-bit word of activations in all lanes."""
        per_word = self.scheme.per_word
        packed = load(self.q, (t, g, i64(token), i64(per_word * place)), per_word)
        return splat(T.reinterpret("int32", packed), 16)


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
    groups, scheme = group_count(k), _SCHEMES[activations]
    with kernel(f"q4_linear_vnni_{activations}") as built:
        tokens = size(m)
        blocks = size(None if n is None else block_count(n))
        x = argument("x", (tokens, k), x_dtype)
        w = argument("w", (blocks, groups, 4, 64), "uint8")
        s = argument("s", (blocks, groups, ROWS), scale_dtype)
        y = argument("y", (tokens, blocks * ROWS if n is None else n), out_dtype)
        if m == 1:
            rounded = _Rounded.allocate(1, 1, groups, scheme)
            _round_row(rounded, x, i64(0), i64(0), k)
            with parallel(T.truncdiv(blocks, i64(2))) as pair:
                _one_token(rounded, w, s, y, pair, n)
        else:
            rounded = _Rounded.allocate(CHUNK, TILE, groups, scheme)
            with serial(ceil_div(tokens, CHUNK)) as chunk:
                first = bind(chunk * CHUNK)
                here = bind(T.min(tokens - first, i64(CHUNK)))
                with parallel(here) as row:
                    _round_row(rounded, x, first + row, row, k)
                pairs = T.truncdiv(blocks, i64(2))
                with parallel(pairs) as pair, serial(ceil_div(here, TILE)) as t:
                    _tile_of_tokens(rounded, w, s, y, pair, t, first, n)
    return built.get()


def _round_row(rounded: _Rounded, x: Buffer, token: Expr, row: Expr, k: int) -> None:
    groups = group_count(k)
    if k % GROUP:  # a copy that ends with whole groups
        padded = scratch((1, groups * GROUP))
        copy_row(x, token, k, padded, i64(0), 16)
        x, token = padded, i64(0)
    with serial(groups) as g:
        rounded.put(row, g, [bind(load_f32(x, (token, g * GROUP + 16 * i), 16)) for i in range(2)])


def _one_token(
    rounded: _Rounded, w: Buffer, s: Buffer, y: Buffer, pair: Expr, n: int | None
) -> None:
    zero, scheme = i64(0), rounded.scheme
    blocks = [bind(pair * 2 + i) for i in range(2)]
    sums = [Accumulator(16) for _ in blocks]
    with serial(w.shape[1]) as g:
        scale, bias = bind(rounded.scale[zero, g, zero]), bind(rounded.bias[zero, g, zero])
        for block, total in zip(blocks, sums, strict=True):
            # Two chains hide the latency of a dot product.
            chains = [bind(splat(start, 16)) for start in (bias, i32(0))]
            for c in range(4):
                prefetch(w, (block, g, i64(c), i64(_PREFETCH)))
            for c in range(4):
                for v, codes in enumerate(scheme.codes(_packed(w, block, g, c))):
                    x = rounded.word(zero, g, 0, scheme.place(c, v))
                    chains[v % 2] = scheme.dot(chains[v % 2], codes, x)
            row_scale = bind(load_f32(s, (block, g, zero), 16))
            dot = T.Cast("float32x16", chains[0] + chains[1])
            total.add(dot * (row_scale * splat(scale, 16)))
    for block, total in zip(blocks, sums, strict=True):
        store_block(y, zero, block, [total.get()], n)


def _tile_of_tokens(
    rounded: _Rounded,
    w: Buffer,
    s: Buffer,
    y: Buffer,
    pair: Expr,
    t: Expr,
    first: Expr,
    n: int | None,
) -> None:
    scheme = rounded.scheme
    blocks = [bind(pair * 2 + i) for i in range(2)]
    sums = [[Accumulator(16) for _ in blocks] for _ in range(TILE)]
    with serial(w.shape[1]) as g:
        bias = [bind(splat(rounded.bias[t, g, i64(m)], 16)) for m in range(TILE)]
        dots = [[bias[m] for _ in blocks] for m in range(TILE)]
        for c in range(4):
            codes = [scheme.codes(_packed(w, block, g, c)) for block in blocks]
            for v in range(len(codes[0])):
                for m in range(TILE):
                    x = bind(rounded.word(t, g, m, scheme.place(c, v)))
                    for i in range(2):
                        dots[m][i] = scheme.dot(dots[m][i], codes[i][v], x)
        row_scale = [bind(load_f32(s, (block, g, i64(0)), 16)) for block in blocks]
        for m in range(TILE):
            scale = bind(splat(rounded.scale[t, g, i64(m)], 16))
            for i in range(2):
                sums[m][i].add(T.Cast("float32x16", dots[m][i]) * (row_scale[i] * scale))
    for m in range(TILE):
        token = bind(first + t * TILE + m)
        with when(token < y.shape[0]):
            for block, total in zip(blocks, sums[m], strict=True):
                store_block(y, token, block, [total.get()], n)


def _packed(w: Buffer, block: Expr, g: Expr, c: int) -> Expr:
    """64 bytes of weights as 16 lanes of 32 bits."""
    return bind(T.reinterpret("uint32x16", load(w, (block, g, i64(c), i64(0)), 64)))
