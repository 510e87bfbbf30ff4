"""Scores in base 2, of the products of scaled queries (`query_scale`) with keys.

score = scale log2(e) q . k
score = cap log2(e) tanh(scale / cap q . k)          with a soft cap
"""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.attention_terms import LOG2E
from mlc_llm.plugin import AttentionSpec

from .vector import Expr, bind, exp2_nonpositive, splat


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
