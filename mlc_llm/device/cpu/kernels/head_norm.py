"""Queries and keys normalised by their heads, in place, before they are rotated.

y = x / sqrt(mean(x^2) + eps) * w, over the elements of each head; see `norm.py`
"""

from __future__ import annotations

from functools import cache

from tvm.tirx import PrimFunc

from mlc_llm.plugin import AttentionSpec

from .isa import Isa
from .norm import rms_normed
from .rows import each_vector
from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    each_token,
    kernel,
    load_f32,
    serial,
    size,
    store_f32,
)


@cache
def head_norm(
    spec: AttentionSpec,
    epsilon: float,
    weight_dtype: str,
    x_dtype: str,
    isa: Isa,
    unit_offset: bool = False,
) -> PrimFunc:
    """Normalise each head of the queries by one weight, each of the keys by another.

    Arguments of the kernel: qkv (n, qkv_width), in place, and the weights of queries and of keys,
    both (key_size,). Values stay as they are.

    Args:
        spec: how the layer attends, with keys of its own.
        epsilon: of both norms.
        weight_dtype: dtype of the weights.
        x_dtype: dtype of qkv.
        isa: what the CPU offers.
        unit_offset: whether the factors are 1 + weight.

    Raises:
        ValueError: the layer has no keys.
    """
    if spec.keys_of is not None:
        raise ValueError(f"the layer has no keys to normalise: it uses those of {spec.keys_of}")
    with kernel("head_norm") as built:
        rows, heads = size(), spec.query_heads
        qkv = argument("qkv", (rows, spec.qkv_width), x_dtype)
        query, key = (argument(n, (spec.key_size,), weight_dtype) for n in ("q_weight", "k_weight"))

        def normalise(row: Expr) -> None:
            for weight, first, count in ((query, 0, heads), (key, heads, spec.kv_heads)):
                with serial(count) as head:
                    start = bind((head + first) * spec.key_size)
                    _normalise_head(qkv, row, start, weight, epsilon, unit_offset, isa.lanes)

        each_token(rows, normalise)
    return built.get()


def _normalise_head(
    qkv: Buffer,
    row: Expr,
    start: Expr,
    weight: Buffer,
    epsilon: float,
    unit_offset: bool,
    lanes: int,
) -> None:
    """The head whose elements begin at a column."""
    length = int(weight.shape[0])

    def x(at: Expr, n: int) -> Expr:
        return load_f32(qkv, (row, start + at), n)

    y = rms_normed(x, length, weight, epsilon, unit_offset, lanes)
    each_vector(length, lanes, lambda at, n: store_f32(qkv, (row, start + at), y(at, n), n))
