"""A language model as a compiled library has it: its functions, which are the same for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlc_llm.model.layers import AttentionCache, Embedding, Linear, rows_at
from mlc_llm.model.module import Module

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class CausalLM(Module, ABC):
    """A decoder-only language model. An architecture gives its embedding, its layers and its head.

    Hidden states are (tokens, hidden). Which tokens belong to which sequence is the KV cache's
    business, so that one sequence and several are one computation.
    """

    @abstractmethod
    def embed(self, token_ids: Tensor) -> Tensor:
        """Token ids (n,) int32 to embeddings (n, hidden)."""

    @abstractmethod
    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        """Embeddings to the hidden states after all layers, not yet normalised."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (n, hidden), not yet normalised, to logits (n, vocab) in float32."""

    def prefill(self, token_ids: Tensor, kv_cache: AttentionCache) -> tuple[Tensor, ...]:
        """Append the tokens (n,) of one or several sequences to the cache; returns its pages.

        What only logits need, as the last layer's attention, is not computed.
        """
        self.layers(self.embed(token_ids), kv_cache)
        return tuple(kv_cache.pages)

    def decode(self, token_ids: Tensor, kv_cache: AttentionCache) -> Tensor:
        """Append tokens (n,), each a row by itself, and give the logits (n, vocab) after each."""
        return self.logits(self.layers(self.embed(token_ids), kv_cache))

    def score(self, token_ids: Tensor, logit_rows: Tensor, kv_cache: AttentionCache) -> Tensor:
        """Append tokens as `prefill` does, and give the logits (r, vocab) after some of them.

        Args:
            token_ids: (n,) int32.
            logit_rows: (r,) int32, the rows whose logits are wanted.
            kv_cache: the cache.
        """
        hidden = self.layers(self.embed(token_ids), kv_cache)
        return self.logits(rows_at(hidden, logit_rows))


def through_layers(layers: Iterable[Module], hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
    """Hidden states after some layers, each of which takes the states, the cache and its index."""
    for index, layer in enumerate(layers):
        hidden = layer(hidden, kv_cache, index)
    return hidden


def untied_head(tied: bool, hidden_size: int) -> Linear | None:
    """The layer that makes logits; None where the table of embeddings does so."""
    return None if tied else Linear(hidden_size, "vocab_size", out_dtype="float32")


def head_logits(hidden: Tensor, head: Linear | None, table: Embedding) -> Tensor:
    """Logits (n, vocab) in float32 of normalised hidden states (n, hidden).

    Args:
        hidden: the states.
        head: what :func:`untied_head` gave.
        table: the embeddings, which are the head of a model that has none of its own.
    """
    return table.as_linear(hidden) if head is None else head(hidden)
