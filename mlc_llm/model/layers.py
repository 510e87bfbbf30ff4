"""Layers that TVM's ``nn`` does not have, in their plain form.

A device may replace them, and TVM's own ``nn.Linear``, ``nn.Embedding`` and ``nn.RMSNorm``, by
kernels of its own when it lowers a model.
"""

from __future__ import annotations

from tvm import relax, te
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


class KVCache(nn.Object):
    """TVM's paged KV cache, as a model sees it."""

    def attention(self, layer: int, qkv: nn.Tensor, query_heads: int, scale: float) -> nn.Tensor:
        """Rotate and append this layer's keys and values, then attend.

        Args:
            layer: index of the layer.
            qkv: (tokens, query_heads + 2 * kv_heads, head_dim) in the cache's dtype.
            query_heads: number of query heads.
            scale: factor of the scores, usually ``head_dim ** -0.5``.

        Returns:
            (tokens, query_heads, head_dim) in the cache's dtype.
        """
        tokens, _, head_dim = qkv.shape
        call = relax.call_dps_packed(
            "vm.builtin.attention_kv_cache_attention_with_fused_qkv",
            [self._expr, relax.prim_value(layer), relax.prim_value(scale), qkv._expr],
            out_ty=relax.TensorType((tokens, query_heads, head_dim), qkv.dtype),
        )
        return nn.Tensor(_expr=relax.BlockBuilder.current().emit(call))


def last_token(x: nn.Tensor) -> nn.Tensor:
    """The last row of (tokens, hidden), as (1, hidden)."""

    def pick(rows: te.Tensor) -> te.Tensor:
        last = rows.shape[0] - 1
        return te.compute((1, rows.shape[1]), lambda _, j: rows[last, j], name="last_token")

    return op.tensor_expr_op(pick, "last_token", [x])


def rows_at(x: nn.Tensor, positions: nn.Tensor) -> nn.Tensor:
    """The rows of (tokens, hidden) that ``positions`` (b,) int32 names, as (b, hidden)."""

    def pick(rows: te.Tensor, at: te.Tensor) -> te.Tensor:
        shape = (at.shape[0], rows.shape[1])
        return te.compute(shape, lambda i, j: rows[at[i], j], name="rows_at")

    return op.tensor_expr_op(pick, "rows_at", [x, positions])
