"""The layers that architectures are made of. Importing them does not import TVM.

A device may compute them with kernels of its own. What stands here as ``forward`` defines them, and
is what a device computes that has no kernel for a layer. Their parameters are named as MLC names
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from mlc_llm.model import op
from mlc_llm.model.module import Module, Parameter
from mlc_llm.plugin import AttentionSpec
from mlc_llm.shown import shown

if TYPE_CHECKING:
    from tvm import te
    from tvm.relax.frontend.nn import Tensor

ActivationName = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]
"""Functions of one number x:

========= ==================================================================
silu      ``x / (1 + exp(-x))``
gelu      ``x * (1 + erf(x / sqrt(2))) / 2``
gelu_tanh ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x ** 3))) / 2``
relu      ``max(x, 0)``
relu2     ``max(x, 0) ** 2``
========= ==================================================================
"""


_HIDDEN_ACT: dict[str, ActivationName] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def activation_name(hidden_act: str) -> ActivationName:
    """The activation that Hugging Face's files call ``hidden_act``.

    Raises:
        ValueError: there is no layer for it.
    """
    if not isinstance(hidden_act, str) or hidden_act not in _HIDDEN_ACT:
        known = ", ".join(_HIDDEN_ACT)
        raise ValueError(f"the activation {shown(hidden_act)} is not supported; known: {known}")
    return _HIDDEN_ACT[hidden_act]


class Linear(Module):
    """``x @ weight.T + bias``.

    Args:
        in_features: columns of the weight.
        out_features: rows of the weight: a number, the name of a symbolic size, or the rows of each
            part of a weight that is joined of several, which may be stored in different schemes.
        bias: whether there is a bias.
        out_dtype: dtype of the result; None for that of x.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int | str | tuple[int, ...],
        *,
        bias: bool = False,
        out_dtype: str | None = None,
    ) -> None:
        self.in_features = in_features
        self.parts = out_features if isinstance(out_features, tuple) else (out_features,)
        self.out_features = sum(out_features) if isinstance(out_features, tuple) else out_features
        self.out_dtype = out_dtype
        self.weight: Any = Parameter((self.out_features, in_features))
        self.bias: Any = Parameter((self.out_features,)) if bias else None

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """(..., in_features) to (..., out_features).

        Args:
            x: what is multiplied.
            add: the residual, added to the product; a device's kernel may add it as it writes. It
                has the result's shape and dtype.
        """
        # Sums in float16 would lose what the weights have.
        y = op.matmul(x, op.permute_dims(self.weight), out_dtype="float32")
        y = y if self.bias is None else y + op.astype(self.bias, "float32")
        y = op.astype(y, self.out_dtype or x.dtype)
        return y if add is None else add + y

    def joined(self, x: Tensor, *others: Linear) -> Tensor:
        """What this layer and others make of x, side by side; one kernel of a device may make it.

        Args:
            x: (..., in_features).
            others: layers with the same ``in_features`` and dtype of results.
        """
        return op.concat([layer(x) for layer in (self, *others)], dim=-1)


class Embedding(Module):
    """A table whose rows are looked up: of tokens, or of positions.

    Args:
        num: rows of the table: a number, or the name of a symbolic size.
        dim: columns of the table.
    """

    def __init__(self, num: int | str, dim: int) -> None:
        self.num, self.dim = num, dim
        self.weight: Any = Parameter((num, dim))

    def forward(self, ids: Tensor) -> Tensor:
        """Indices (n,) int32 to rows (n, dim)."""
        return op.take(self.weight, ids, axis=0)

    def as_linear(self, x: Tensor) -> Tensor:
        """Logits (n, num) in float32 of hidden states (n, dim): a head that shares the table."""
        return op.matmul(x, op.permute_dims(self.weight), out_dtype="float32")


class RMSNorm(Module):
    """``x / sqrt(mean(x ** 2) + eps) * weight`` over the last axis (arXiv:1910.07467).

    Args:
        dim: size of the last axis.
        eps: epsilon.
        unit_offset: whether the factor is ``1 + weight``, as in Gemma's checkpoints.
    """

    def __init__(self, dim: int, eps: float, *, unit_offset: bool = False) -> None:
        self.dim, self.eps, self.unit_offset = dim, eps, unit_offset
        self.weight: Any = Parameter((dim,))

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """(..., dim) of any rank to the same shape.

        Args:
            x: what is normalised.
            add: the residual, added to the result, whose shape and dtype it has; a device's kernel
                may add it as it writes.
        """
        weight = self.weight + 1.0 if self.unit_offset else self.weight
        y = op.rms_norm(x, weight, axes=-1, epsilon=self.eps)
        return y if add is None else add + y

    def of_heads(self, qkv: Tensor, attention: AttentionSpec, keys: RMSNorm) -> Tensor:
        """Normalise each head of the queries by this norm, and each of the keys by ``keys``.

        Args:
            qkv: (tokens, qkv_width of the description).
            attention: the description, with keys of the layer's own.
            keys: a norm of ``key_size`` elements, as this one is.

        Returns:
            As qkv; values are as they were.
        """
        return norm_heads(qkv, attention, self, keys)


class LayerNorm(Module):
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` over the last axis (arXiv:1607.06450).

    Args:
        dim: size of the last axis.
        eps: epsilon.
        bias: whether there is a bias.
    """

    def __init__(self, dim: int, eps: float, *, bias: bool = True) -> None:
        self.dim, self.eps = dim, eps
        self.weight: Any = Parameter((dim,))
        self.bias: Any = Parameter((dim,)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) of any rank to the same shape."""
        bias = op.zeros((self.dim,), x.dtype) if self.bias is None else self.bias
        return op.layer_norm(x, self.dim, self.weight, bias, self.eps)


class Activation(Module):
    """A function of each element.

    Args:
        name: which one.
    """

    def __init__(self, name: ActivationName) -> None:
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return _ACTIVATIONS[self.name](x)


class GatedActivation(Module):
    """A function of the first half of the last axis, times the second half: SwiGLU and its like.

    Args:
        name: which function.
    """

    def __init__(self, name: ActivationName) -> None:
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 n) to (..., n)."""
        gate, up = op.split(x, 2, axis=-1)
        return _ACTIVATIONS[self.name](gate) * up


_ACTIVATIONS: dict[ActivationName, Callable[[Any], Any]] = {
    "silu": lambda x: op.silu(x),
    "gelu": lambda x: op.gelu(x),
    "gelu_tanh": lambda x: op.gelu(x, "tanh"),
    "relu": lambda x: op.relu(x),
    "relu2": lambda x: op.square(op.relu(x)),
}


class AttentionCache(Protocol):
    """What a model's layers attend through: the KV cache of a pass while it is traced.

    Attributes:
        positions: (tokens,) int32, the position of each token in its sequence.
        pages: the tensors of keys and values, with those that were appended.
    """

    positions: Tensor
    pages: list[Tensor]

    def attend(self, layer: int, qkv: Tensor, sinks: Tensor | None = None) -> Tensor:
        """Rotate and append a layer's keys and values, then attend as the architecture describes.

        Args:
            layer: the layer's index.
            qkv: (tokens, qkv_width of the layer's description): queries, keys, values.
            sinks: (query_heads,) float32 logits, where the description has ``sink_logits``.

        Returns:
            (tokens, out_width of the description).
        """
        ...


def soft_cap(x: Tensor, cap: float) -> Tensor:
    """``cap * tanh(x / cap)``: x, bounded by the cap, as Gemma 2 bounds its logits."""
    return op.tanh(x * (1.0 / cap)) * cap


def norm_heads(qkv: Tensor, attention: AttentionSpec, queries: Module, keys: Module) -> Tensor:
    """Normalise each head of queries, and each of keys.

    Args:
        qkv: (tokens, qkv_width of the description).
        attention: the description, with keys of the layer's own.
        queries: the norm of the queries, (tokens, heads, key_size) to the same shape.
        keys: the norm of the keys.

    Returns:
        As qkv; values are as they were.
    """
    tokens, size = qkv.shape[0], attention.key_size
    ends = [attention.query_heads * size, (attention.query_heads + attention.kv_heads) * size]
    query, key, value = op.split(qkv, ends, axis=1)
    heads = [
        op.reshape(norm(op.reshape(part, (tokens, count, size))), (tokens, count * size))
        for norm, part, count in (
            (queries, query, attention.query_heads),
            (keys, key, attention.kv_heads),
        )
    ]
    return op.concat([*heads, value], dim=1)


def rows_at(x: Tensor, rows: Tensor) -> Tensor:
    """The rows of (tokens, hidden) that ``rows`` (b,) int32 names, as (b, hidden)."""
    from tvm import te

    def pick(x: te.Tensor, at: te.Tensor) -> te.Tensor:
        shape = (at.shape[0], x.shape[1])
        return te.compute(shape, lambda i, j: x[at[i], j], name="rows_at")

    return op.tensor_expr_op(pick, "rows_at", [x, rows])
