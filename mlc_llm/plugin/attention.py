"""How a layer attends: what an architecture says of each layer, and a device makes kernels for."""

from __future__ import annotations

from dataclasses import dataclass

PAGE_SIZE = 16
"""Tokens of a page of the KV cache."""


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding (Su et al., 2021, arXiv:2104.09864) of queries and keys.

    Pair i of a head at position p turns by the angle ``p * frequencies[i]``. The first
    ``2 * len(frequencies)`` elements of a head turn; the others stay as they are.

    Args:
        frequencies: angle of each pair per position; float32 numbers.
        factor: multiplies sine and cosine, as YaRN and LongRoPE ask for.
        interleaved: pair i is the elements 2 i and 2 i + 1 (GPT-J), and not i and
            i + ``len(frequencies)`` (Llama, GPT-NeoX).
    """

    frequencies: tuple[float, ...]
    factor: float = 1.0
    interleaved: bool = False


@dataclass(frozen=True)
class AttentionSpec:
    """How one layer attends. Layers whose descriptions are equal share their kernels.

    A query at position p sees the keys at the positions up to p: all of them, or with a window
    those at ``p - window < j`` and those of the first ``sink`` positions. Its scores are
    ``scale * (q . k)``, with a soft cap ``soft_cap * tanh(scale * (q . k) / soft_cap)``.

    Args:
        query_heads: heads of queries, a multiple of ``kv_heads``.
        kv_heads: heads of keys and values.
        key_size: elements of a head of queries and keys.
        value_size: elements of a head of values.
        scale: factor of the scores, usually ``key_size ** -0.5``.
        rope: rotary position embedding of queries and keys; None for none.
        window: positions that a query sees, its own the last; None for all.
        sink: first positions that are seen whatever the window.
        sink_logits: whether each query head has a logit that takes part in the softmax without a
            value, as in GPT-OSS; the model gives them as a parameter.
        soft_cap: bound of the scores; None for none.
        keys_of: an earlier layer whose keys and values are used; None for the layer's own.
    """

    query_heads: int
    kv_heads: int
    key_size: int
    value_size: int
    scale: float
    rope: Rope | None = None
    window: int | None = None
    sink: int = 0
    sink_logits: bool = False
    soft_cap: float | None = None
    keys_of: int | None = None

    @property
    def group(self) -> int:
        """Query heads that share a head of keys."""
        return self.query_heads // self.kv_heads

    @property
    def qkv_parts(self) -> tuple[int, ...]:
        """Columns of the layer's projection: of queries, then of keys and values of its own."""
        queries = self.query_heads * self.key_size
        if self.keys_of is not None:
            return (queries,)
        return queries, self.kv_heads * self.key_size, self.kv_heads * self.value_size

    @property
    def qkv_width(self) -> int:
        """All columns of the layer's projection."""
        return sum(self.qkv_parts)

    @property
    def out_width(self) -> int:
        """Columns of what the layer attends to, all query heads side by side."""
        return self.query_heads * self.value_size

    @property
    def page_shape(self) -> tuple[int, int]:
        """Shape of a page: for each head its keys (PAGE_SIZE, key_size), then its values."""
        return self.kv_heads, PAGE_SIZE * (self.key_size + self.value_size)
