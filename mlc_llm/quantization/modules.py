"""Group-quantised layers in MLC's storage layout, and the mutator that puts them into a model.

Their ``forward`` is the plain definition, dequantise then multiply, which a GPU's schedule rules
fuse; a device with kernels of its own replaces the layers instead.
"""

from __future__ import annotations

from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from mlc_llm.quantization.scheme import Scheme


def _dequantize(weight: nn.Tensor, scale: nn.Tensor, columns: int, scheme: Scheme) -> nn.Tensor:
    """Codes (n, words) and scales (n, groups) to values (n, columns) in the model's dtype."""
    per_word, group, zero = scheme.codes_per_word, scheme.group_size, (1 << (scheme.bits - 1)) - 1
    mask = tirx.const((1 << scheme.bits) - 1, scheme.storage_dtype)

    def compute(words: te.Tensor, scales: te.Tensor) -> te.Tensor:
        def value(row: tirx.Var, column: tirx.Var) -> tirx.PrimExpr:
            shift = (column % per_word * scheme.bits).astype(scheme.storage_dtype)
            code = tirx.bitwise_and(tirx.shift_right(words[row, column // per_word], shift), mask)
            centred = code.astype(scheme.model_dtype) - tirx.const(zero, scheme.model_dtype)
            return centred * scales[row, column // group]

        return te.compute((words.shape[0], columns), value, name="dequantize")

    return op.tensor_expr_op(compute, "dequantize", [weight, scale])


class GroupQuantizedLinear(nn.Module):
    """A linear layer whose weight is stored as ``q_weight`` and ``q_scale``.

    Args:
        linear: the layer it replaces.
        scheme: the quantisation.
    """

    def __init__(self, linear: nn.Linear, scheme: Scheme) -> None:
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.out_dtype = linear.out_dtype
        self.scheme = scheme
        groups = -(-self.in_features // scheme.group_size)
        words = groups * scheme.group_size // scheme.codes_per_word
        rows = self.out_features
        self.q_weight = nn.Parameter((rows, words), scheme.storage_dtype)
        self.q_scale = nn.Parameter((rows, groups), scheme.model_dtype)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        weight = _dequantize(self.q_weight, self.q_scale, self.in_features, self.scheme)
        return op.matmul(x, op.permute_dims(weight), out_dtype=self.out_dtype)


class GroupQuantizedEmbedding(nn.Module):
    """A token embedding whose table is stored as ``q_weight`` and ``q_scale``."""

    def __init__(self, embedding: nn.Embedding, scheme: Scheme) -> None:
        self.num, self.dim = embedding.num, embedding.dim
        self.scheme = scheme
        groups = -(-self.dim // scheme.group_size)
        words = groups * scheme.group_size // scheme.codes_per_word
        self.q_weight = nn.Parameter((self.num, words), scheme.storage_dtype)
        self.q_scale = nn.Parameter((self.num, groups), scheme.model_dtype)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        rows = op.take(self.q_weight, x, axis=0), op.take(self.q_scale, x, axis=0)
        return _dequantize(*rows, self.dim, self.scheme)

    def lm_head_forward(self, x: nn.Tensor) -> nn.Tensor:
        """Logits (tokens, vocabulary) in float32 of hidden states (tokens, hidden)."""
        weight = _dequantize(self.q_weight, self.q_scale, self.dim, self.scheme)
        return op.matmul(x, op.permute_dims(weight), out_dtype="float32")


class _Quantizer(nn.Mutator):
    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme

    def visit_module(self, name: str, node: nn.Module) -> nn.Module:
        if isinstance(node, nn.Linear):
            if node.bias is not None:
                raise NotImplementedError(f"{name}: a quantised linear layer with a bias")
            return GroupQuantizedLinear(node, self.scheme)
        if isinstance(node, nn.Embedding):
            return GroupQuantizedEmbedding(node, self.scheme)
        return self.visit(name, node)


def quantize_model(model: nn.Module, scheme: Scheme) -> nn.Module:
    """Replace every linear and embedding layer as ``scheme`` says; ``none`` changes nothing."""
    return model if scheme.kind == "none" else _Quantizer(scheme).visit("", model)
