"""What weight maps are written with: linear layers, and functions for ``Weight``'s ``make``.

Functions that return :data:`OrderRows` only order or split rows, which a ``Weight`` with one says
by ``orders_rows``. They take any dtype and number of axes, and so biases and quantised rows too::

    qkv = f"{layer}.attention.query_key_value"
    order = interleaved_qkv(config.num_attention_heads, config.head_dim)
    Weight(f"{qkv}.weight", make=order, orders_rows=True)
    Weight(f"{qkv}.bias", make=order, orders_rows=True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.plugin import Weight

Array = npt.NDArray[Any]
OrderRows = Callable[[Array], Array]
"""Gives the rows of a tensor in another order, or some of them."""


def linear_weights(
    owner: str, name: str, sources: Sequence[str] = (), *, bias: bool = False
) -> list[Weight]:
    """Where a linear layer's weight and bias come from.

    Args:
        owner: the name of the module that has the layer.
        name: the layer's name in it.
        sources: the names of the layers that a checkpoint has in its place; none for the same one.
        bias: whether there is a bias.
    """
    return [
        Weight(f"{owner}.{name}.{part}", tuple(f"{owner}.{source}.{part}" for source in sources))
        for part in (("weight", "bias") if bias else ("weight",))
    ]


def transposed(w: Array) -> Array:
    """A matrix (in, out), as GPT-2's ``Conv1D`` holds it, as a linear layer's (out, in)."""
    return np.ascontiguousarray(w.T)


def plus_one(w: Array) -> Array:
    """A norm's weight that the checkpoint holds as its distance from 1, as Gemma's do."""
    return w + 1


def minus_one(w: Array) -> Array:
    """The inverse of :func:`plus_one`, for files that hold such a norm as it is multiplied."""
    return w - 1


def stacked(*matrices: Array) -> Array:
    """The matrices (rows, columns) of n experts as one tensor (n, rows, columns)."""
    return np.stack(matrices)


def rows(begin: int, end: int) -> OrderRows:
    """Take the rows ``begin`` to ``end - 1``, as of a tensor that several weights share."""

    def take(w: Array) -> Array:
        if not 0 <= begin <= end <= len(w):
            raise ValueError(f"there are no rows {begin} to {end} among {len(w)}")
        return w[begin:end]

    return take


def interleaved_qkv(heads: int, head_dim: int) -> OrderRows:
    """Queries, keys and values of each head, one head after the other, as GPT-NeoX's.

    Args:
        heads: attention heads, each with keys and values of its own.
        head_dim: rows of a head's query, key or value.

    Returns:
        A function that gives the queries of all heads, then the keys, then the values.
    """
    return grouped_qkv(heads, 1, head_dim)


def grouped_qkv(kv_heads: int, group: int, head_dim: int) -> OrderRows:
    """The queries, the key and the value of each key head in turn, as InternLM 2 has them.

    Args:
        kv_heads: heads of keys and values.
        group: query heads that share one of them.
        head_dim: rows of a head.

    Returns:
        A function that gives the queries of all heads, then the keys, then the values.
    """
    at = np.arange(kv_heads * (group + 2) * head_dim).reshape(kv_heads, group + 2, head_dim)
    return _ordered(np.concatenate([at[:, :group].ravel(), at[:, -2].ravel(), at[:, -1].ravel()]))


def inverse(order: OrderRows, count: int) -> OrderRows:
    """What undoes an order of ``count`` rows, all of which it has."""
    return _ordered(np.argsort(order(np.arange(count))))


def rotary_halves(heads: int, head_dim: int, rotary_dim: int | None = None) -> OrderRows:
    """Rows that RoPE rotates in pairs 2i and 2i + 1, as it rotates here: i and i + d / 2.

    The scores of queries and keys are the same, if both are ordered so.

    Args:
        heads: heads of the queries, or of the keys.
        head_dim: rows of a head.
        rotary_dim: how many of those, the first, are rotated (d); None for all.
    """
    return _ordered(_halves(heads, head_dim, rotary_dim))


def rotary_pairs(heads: int, head_dim: int, rotary_dim: int | None = None) -> OrderRows:
    """The inverse of :func:`rotary_halves`. Orders rows."""
    return _ordered(np.argsort(_halves(heads, head_dim, rotary_dim)))


def _halves(heads: int, head_dim: int, rotary_dim: int | None) -> Array:
    """For each row, which one takes its place when pairs become halves."""
    rotated = head_dim if rotary_dim is None else rotary_dim
    if not 0 <= rotated <= head_dim or rotated % 2:
        raise ValueError(f"{rotated} of {head_dim} rows cannot be rotated in pairs")
    order = np.arange(head_dim)
    order[:rotated] = order[:rotated].reshape(-1, 2).T.ravel()
    return (head_dim * np.arange(heads)[:, None] + order).ravel()


def _ordered(order: Array) -> OrderRows:
    def take(w: Array) -> Array:
        if len(w) != len(order):
            raise ValueError(f"there are {len(w)} rows, where {len(order)} must be ordered")
        return w[order]

    return take
