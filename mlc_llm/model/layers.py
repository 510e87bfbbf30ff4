"""Layers that TVM's ``nn`` does not have, in their plain form.

A device may replace them, and TVM's own ``nn.Linear``, ``nn.Embedding`` and ``nn.RMSNorm``, by
kernels of its own when it lowers a model.
"""

from __future__ import annotations

from typing import Protocol

from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op


class Embedding(nn.Embedding):
    """A token embedding whose table can serve as the output projection too."""

    def lm_head_forward(self, x: nn.Tensor) -> nn.Tensor:
        """Logits (tokens, vocabulary) in float32 of hidden states (tokens, hidden)."""
        return op.matmul(x, op.permute_dims(self.weight), out_dtype="float32")


class SiluAndMul(nn.Module):
    """SwiGLU's product: silu of the first half of the last axis times the second half."""

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        gate, up = op.split(x, 2, axis=-1)
        return op.silu(gate) * up


class KVCache(Protocol):
    """The KV cache of a pass, as a model sees it while it is traced.

    Attributes:
        positions: (tokens,) int32, the position of each token in its sequence.
        pages: the tensors of keys and values, with those that were appended.
    """

    positions: nn.Tensor
    pages: list[nn.Tensor]

    def attend(self, layer: int, qkv: nn.Tensor, sinks: nn.Tensor | None = None) -> nn.Tensor:
        """Rotate and append a layer's keys and values, then attend as the architecture describes.

        Args:
            layer: the layer's index.
            qkv: (tokens, qkv_width of the layer's description): queries, keys, values.
            sinks: (query_heads,) float32 logits, where the description has ``sink_logits``.

        Returns:
            (tokens, out_width of the description).
        """
        ...


def rows_at(x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
    """The rows of (tokens, hidden) that ``positions`` (b,) int32 names, as (b, hidden)."""

    def pick(rows: te.Tensor, at: te.Tensor) -> te.Tensor:
        shape = (at.shape[0], rows.shape[1])
        return te.compute(shape, lambda i, j: rows[at[i], j], name="rows_at")

    return op.tensor_expr_op(pick, "rows_at", [x, positions])
