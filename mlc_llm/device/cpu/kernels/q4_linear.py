"""Linear layers with 4-bit weights in groups of 32 along the reduced axis.

Stored (as converted): q_weight (n, groups * 4) uint32, eight codes a word, lowest bits first;
q_scale (n, groups); weight = (code - 7) * scale. groups = ceil(k / 32); the codes that fill the
last group are 0 and count for nothing, because activations past k are taken as 0.

Packed (once, at load), so that 16 rows are 16 lanes and no sum crosses lanes:

    W (blocks, groups, 4, 64) uint8    byte [b, g, c, 4 * i + j] belongs to row 16 * b + i;
                                       low nibble: k = 32 * g + 4 * c + j, high nibble: 16 further
    S (blocks, groups, 16)             scale of row 16 * b + i

blocks is even (`q4_blocks`): the kernels take two blocks at a time. Rows past n have scale 0.

y[m, r] = sum over g of S[r, g] * (sum over k in g of code[r, k] * x[m, k] - 7 * sum of x in g):
the offset of 7 starts the accumulator, it is never subtracted from a weight.

Error: half a step of each group's rounded activations (`rounding.py`), which is sum |w| times
max |x| / 65024 with "a16" and max |x| / 254 with "a8"; and float32 roundings, below 1e-6 of
sum |w| |x|.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import ROWS, block_count, group_count
from .isa import Isa
from .q4_dot import q4_linear_dot
from .rows import PLAIN, RowsOf
from .vector import Expr, argument, bind, ceil_div, i64, kernel, parallel, serial, size, store

# The number of blocks and of groups in the packed layout.
q4_blocks, q4_groups = block_count, group_count


@cache
def q4_linear(
    n: int | None,
    k: int,
    m: int | None,
    scale_dtype: str,
    x_dtype: str,
    out_dtype: str,
    isa: Isa,
    activations: str = "a16",
    rows: RowsOf = PLAIN,
    residual: bool = False,
) -> PrimFunc:
    """y = x @ weight.T, x being made of the first arguments, and a residual added.

    Arguments of the kernel: x `x_dtype` and what else `rows` takes, W, S `scale_dtype`, with
    `residual` one of y's shape and dtype, y (m, n) `out_dtype`.

    Args:
        n: rows of the weight; None when only the packed tensors know: y is then (m, 16 * blocks).
        k: columns of the weight.
        m: 1 for a single token, None for any number.
        scale_dtype: dtype of S.
        x_dtype: dtype of x.
        out_dtype: dtype of y.
        isa: what the CPU offers.
        activations: "a16" or "a8", how the rows are rounded.
        rows: how the rows that are multiplied are made of x; see `rows.py`.
        residual: whether y is the sum of the products and a residual, an argument before y.

    Raises:
        ValueError: `m` or `activations` is none of these.
    """
    if activations not in ("a16", "a8"):
        raise ValueError(f"activations must be 'a16' or 'a8', not {activations!r}")
    if m not in (1, None):
        raise ValueError(f"m must be 1 or None (any number of rows), not {m!r}")
    return q4_linear_dot(n, k, m, scale_dtype, x_dtype, out_dtype, isa, activations, rows, residual)


@cache
def repack_q4(n: int | None, k: int, scale_dtype: str) -> PrimFunc:
    """The packed layout of a stored weight.

    Arguments of the kernel: q_weight (n, groups * 4) uint32, q_scale (n, groups), W, S.
    With n = None the number of rows is taken from the tensors.
    """
    groups = q4_groups(k)
    with kernel("repack_q4") as built:
        rows = size(n)
        blocks = i64(q4_blocks(n)) if n is not None else ceil_div(rows, 2 * ROWS) * 2
        q_weight = argument("q_weight", (rows, groups * 4), "uint32")
        q_scale = argument("q_scale", (rows, groups), scale_dtype)
        w = argument("w", (blocks, groups, 4, 64), "uint8")
        s = argument("s", (blocks, groups, ROWS), scale_dtype)
        with parallel(blocks) as b, serial(ROWS) as i:
            row = bind(b * ROWS + i)
            inside = bind(row < rows)
            source = bind(T.min(row, rows - 1))  # a padded row repeats the last one, with scale 0
            with serial(groups) as g:
                scale = T.Select(inside, q_scale[source, g], T.Cast(scale_dtype, T.float32(0)))
                T.buffer_store(s, scale, [b, g, i])
                words = [bind(q_weight[source, g * 4 + word]) for word in range(4)]
                for c in range(4):
                    # Codes 4c .. 4c+3 are a half of word c // 2; those 16 further, of c // 2 + 2.
                    low, high = (_spread(_half(words[c // 2 + 2 * h], c % 2)) for h in range(2))
                    packed = low | T.shift_left(high, T.uint32(4))
                    store(w, (b, g, i64(c), 4 * i), T.reinterpret("uint8x4", packed), 4)
    return built.get()


def _half(word: Expr, which: int) -> Expr:
    """The lower or upper four codes of a word."""
    return T.shift_right(word, T.uint32(16 * which)) & T.uint32(0xFFFF)


def _spread(codes: Expr) -> Expr:
    """Four codes in 16 bits -> one code a byte."""
    x = bind(codes)
    x = bind((x | T.shift_left(x, T.uint32(8))) & T.uint32(0x00FF00FF))
    return bind((x | T.shift_left(x, T.uint32(4))) & T.uint32(0x0F0F0F0F))
