"""Scores in base 2: by what queries are multiplied, and the soft cap.

score = scale log2(e) q . k                          as products of scaled queries
score = cap log2(e) tanh(scale / cap q . k)          with a soft cap
"""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from mlc_llm.plugin import AttentionSpec

from .attention_source import LOG2E
from .vector import Expr, bind, exp2_nonpositive, splat


def query_scale(spec: AttentionSpec) -> float:
    """By what queries are multiplied before they meet the keys."""
    return spec.scale * LOG2E if spec.soft_cap is None else spec.scale / spec.soft_cap


def capped(spec: AttentionSpec, products: Expr, lanes: int) -> Expr:
    """The scores of products of scaled queries with keys.

    tanh(x) = (1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x; its error is below 2e-7.
    """
    if spec.soft_cap is None:
        return products
    x = bind(products)
    e = exp2_nonpositive(T.fabs(x) * splat(-2 * LOG2E, lanes), lanes)
    one, zero = splat(1.0, lanes), splat(0.0, lanes)
    size = bind((one - e) / (one + e) * splat(spec.soft_cap * LOG2E, lanes))
    return bind(T.Select(x < zero, zero - size, size))
