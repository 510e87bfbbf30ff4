"""Linear layers with weights of few bits, in groups along the reduced axis that share a scale.

The codes are packed as `group_layout.py` says, once, by `repack.py`. With the zero of the scheme or
its minimums, and d and v the rounded activations x ~ v * d of a group g (`rounding.py`),

    y[m, r] = sum over g of scale[r, g] * d * (sum over k in g of code[r, k] * v[m, k]
                                               - zero * sum of v in g)
    or        sum over g of scale[r, g] * d * (sum over k in g of code[r, k] * v[m, k])
                            + minimum[r, g] * d * sum of v in g

The zero starts the accumulator: it is never subtracted from a weight. Sums of integers are exact:
no sum of a group exceeds 2 * 255 * 32512 * 64 < 2^31, for groups of up to 64.

A weight may have several parts, whose rows follow each other and which are stored differently.
Activations are rounded once for each size of group.

Error: half a step of each group's rounded activations, which is sum |w| times max |x| / 65024 with
"a16" and max |x| / 254 with "a8"; and float32 roundings, below 1e-6 of sum |w| |x|, or with
minimums of the sum of (|code * scale| + |minimum|) |x|.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import block_count
from .group_dot import multiply
from .group_layout import PackedTensors, Part
from .group_weight import GroupWeight
from .isa import Isa
from .output import Output
from .rounding import TERMS, Rounded
from .rows import PLAIN, InputRows, RowKind
from .vector import Expr, bind, ceil_div, i64, kernel, parallel, serial, size

# Tokens rounded at a time: their bytes and sums stay in the cache while the weights pass by.
ROUNDED_TOKENS = 128


@cache
def group_linear(
    parts: tuple[Part, ...],
    k: int,
    m: int | None,
    x_dtype: str,
    out_dtype: str,
    isa: Isa,
    activations: str = "a16",
    rows: RowKind = PLAIN,
    residual: bool = False,
    bias: str | None = None,
) -> PrimFunc:
    """y = x @ weight.T, x being made of the first arguments, and a bias and a residual added.

    Arguments of the kernel: x `x_dtype` and what else `rows` takes, the packed tensors of each
    part, with `bias` one (n,) of that dtype, with `residual` one of y's shape and dtype, y (m, n)
    `out_dtype`. Where only the packed tensors know the rows, y is (m, 16 * blocks), and 0 past the
    rows; the bias has the length of the rows.

    Args:
        parts: the parts of the weight.
        k: columns of the weight.
        m: 1 for a single token, None for any number.
        x_dtype: dtype of x.
        out_dtype: dtype of y.
        isa: what the CPU offers.
        activations: "a16" or "a8", how the rows are rounded.
        rows: how the rows that are multiplied are made of x; see `rows.py`.
        residual: whether y is the sum of the products and a residual, an argument before y.
        bias: dtype of a bias; None for no bias.

    Raises:
        ValueError: an argument is none of these.
    """
    if activations not in TERMS:
        raise ValueError(f"activations must be 'a16' or 'a8', not {activations!r}")
    if m not in (1, None):
        raise ValueError(f"m must be 1 or None (any number of rows), not {m!r}")
    if len(parts) != 1 and any(part.rows is None for part in parts):
        raise ValueError("a part whose number of rows is unknown must be the only one")
    with kernel(f"group_linear_{isa.name}_{activations}") as built:
        tokens = size(m)
        x = rows.arguments(tokens, k, x_dtype)
        weights = [_weight(part, k, isa, i) for i, part in enumerate(parts)]
        known = [part.rows for part in parts if part.rows is not None]
        y = Output.arguments(
            tokens, weights[0].blocks, sum(known) if known else None, out_dtype, bias, residual
        )
        ends = accumulate(known, initial=0)
        targets = [y.columns(first, part.rows) for part, first in zip(parts, ends, strict=False)]
        multiplied = _multiply_one if m == 1 else _multiply_many
        multiplied(x, list(zip(weights, targets, strict=True)), TERMS[activations])
    return built.get()


_Parts = Sequence[tuple[GroupWeight, Output]]


def _weight(part: Part, k: int, isa: Isa, number: int) -> GroupWeight:
    blocks = size(None if part.rows is None else block_count(part.rows))
    return GroupWeight(PackedTensors.arguments(part, k, blocks, f"_{number}"), isa)


def _multiply_one(x: InputRows, parts: _Parts, terms: int) -> None:
    """One token."""
    rounded = _rounded(parts, 1, terms)
    for some in rounded.values():
        some.round_row(x, i64(0), i64(0))
    for weight, y in parts:
        with parallel(T.truncdiv(weight.blocks, i64(2))) as i:
            multiply(rounded[weight.part.scheme.group], weight, y, i * 2, i64(0), i64(1))


def _multiply_many(x: InputRows, parts: _Parts, terms: int) -> None:
    """Any number of tokens, in chunks."""
    tokens = parts[0][1].tokens
    rounded = _rounded(parts, T.min(tokens, i64(ROUNDED_TOKENS)), terms)
    with serial(ceil_div(tokens, ROUNDED_TOKENS)) as chunk:
        first = bind(chunk * ROUNDED_TOKENS)
        here = bind(T.min(tokens - first, i64(ROUNDED_TOKENS)))
        with parallel(here) as row:
            for some in rounded.values():
                some.round_row(x, bind(first + row), row)
        for weight, y in parts:
            some = rounded[weight.part.scheme.group]
            with parallel(T.truncdiv(weight.blocks, i64(2))) as i:
                multiply(some, weight, y, i * 2, first, here)


def _rounded(parts: _Parts, tokens: Expr | int, terms: int) -> Mapping[int, Rounded]:
    """Working memory for the rounded activations, by size of group."""
    found = {}
    for group in sorted({weight.part.scheme.group for weight, _ in parts}):
        weights = [weight for weight, _ in parts if weight.part.scheme.group == group]
        found[group] = Rounded.allocate(
            tokens,
            weights[0].groups,
            group,
            terms,
            weights[0].isa,
            {weight.offset for weight in weights},
            any(weight.part.scheme.has_minimum for weight in weights),
        )
    return found
