"""The layers of a lowered model, which call a GPU's kernels on the parameters as stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tvm.relax.frontend import nn

from mlc_llm.compile.gpu.folding import NormedRows, ProductRows
from mlc_llm.compile.gpu.kernels.linear import Product
from mlc_llm.compile.gpu.kernels.norm import RMSNormKind
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.compile.gpu.makers import GPU
from mlc_llm.compile.kernel_call import call_kernel, has_kind, over_rows
from mlc_llm.model import op
from mlc_llm.model.layers import (
    Activation,
    ActivationName,
    GatedActivation,
    LayerNorm,
    Linear,
    RMSNorm,
)
from mlc_llm.model.module import Module, Parameter
from mlc_llm.plugin import AttentionSpec
from mlc_llm.plugin.scheme import Scheme, StoredTensor


class StoredMatrix(Module):
    """A weight, or one of its parts, in the tensors of a model folder.

    Args:
        rows: its rows: a number, or the name of a symbolic size.
        columns: its columns.
        scheme: how it is stored.
        tensors: its tensors.
        gpu: what reads them.
    """

    def __init__(
        self,
        rows: int | str,
        columns: int,
        scheme: Scheme,
        tensors: Sequence[StoredTensor],
        gpu: GPU,
    ) -> None:
        self.tensors = [Parameter(tensor.shape, tensor.dtype) for tensor in tensors]
        self.gpu, self._weight = gpu, weight_of(scheme, columns)
        self._rows = rows if isinstance(rows, int) else None
        self._rows_axis = 0 if scheme.layout == "rows" else 1

    @property
    def rows(self) -> Any:
        """Its rows, while a function is traced."""
        return self.tensors[0].shape[self._rows_axis]

    def product(
        self,
        x: nn.Tensor,
        out_dtype: str,
        bias: nn.Tensor | None = None,
        residual: nn.Tensor | None = None,
    ) -> nn.Tensor:
        """x (m, columns) times the transposed weight: (m, rows) in ``out_dtype``.

        Args:
            x: perhaps of a norm, which may be folded into the kernel.
            out_dtype: dtype of the result.
            bias: (rows,), added.
            residual: (m, rows) in ``out_dtype``, added.
        """
        rows, tokens, tensors = self.rows, x.shape[0], self.tensors

        def computed(gate: ActivationName | None) -> nn.Tensor:
            outputs = self._rows if gate is None or self._rows is None else self._rows // 2
            kind, added = None if bias is None else bias.dtype, residual is not None
            product = Product(self._weight, outputs, x.dtype, out_dtype, kind, gate, added)
            kernel, inputs = self._kernel(product, x)
            args = [*inputs, *tensors, *(one for one in (bias, residual) if one is not None)]
            return _call(kernel, args, (tokens, rows if outputs is None else outputs), out_dtype)

        if residual is not None:
            return computed(None)
        return ProductRows((tokens, rows), out_dtype, computed)

    def _kernel(self, product: Product, x: nn.Tensor) -> tuple[Any, Sequence[nn.Tensor]]:
        """The kernel of a product with x, and what it takes for x."""
        kernels, capabilities = self.gpu.kernels, self.gpu.capabilities
        if not (isinstance(x.shape[0], int) and x.shape[0] == 1):
            return kernels.matmul(product, capabilities), [x]
        if isinstance(x, NormedRows):
            normed = replace(product, norm=x.kind)
            if kernels.folds_norm(normed, capabilities):
                return kernels.gemv(normed, capabilities), x.arguments
        return kernels.gemv(product, capabilities), [x]

    def embedding(self, ids: nn.Tensor, dtype: str) -> nn.Tensor:
        """The rows that ids (n,) int32 name: (n, columns) in ``dtype``."""
        kernel = self.gpu.kernels.embedding(self._weight, dtype, self.gpu.capabilities)
        return _call(kernel, [ids, *self.tensors], (ids.shape[0], self._weight.columns), dtype)


class GPULinear(Module):
    """A linear layer; its output has the input's dtype, or the one that the model asked for."""

    def __init__(self, layer: Linear, parts: list[StoredMatrix]) -> None:
        self.parts, self.bias = parts, layer.bias
        self.out_features, self.out_dtype = layer.out_features, layer.out_dtype

    def forward(self, x: nn.Tensor, add: nn.Tensor | None = None) -> nn.Tensor:
        """See :meth:`mlc_llm.model.layers.Linear.forward`; the kernel adds the residual."""
        kind = ((*x.shape[:-1], self.out_features), self.out_dtype or x.dtype)
        if add is not None and has_kind(add, *kind):
            return over_rows(x, self._product, add)
        y = over_rows(x, self._product)  # TVM's operator broadcasts what is added, or refuses it.
        return y if add is None else add + y

    def joined(self: Any, x: nn.Tensor, *others: Any) -> nn.Tensor:
        """See :meth:`mlc_llm.model.layers.Linear.joined`."""
        return Linear.joined(self, x, *others)

    def _product(self, x: nn.Tensor, residual: nn.Tensor | None = None) -> nn.Tensor:
        out_dtype = self.out_dtype or x.dtype
        if len(self.parts) == 1:
            return self.parts[0].product(x, out_dtype, self.bias, residual)
        # A kernel reads one scheme. Parts in several are few, and their outputs are joined.
        y = op.concat([part.product(x, out_dtype) for part in self.parts], dim=1)
        y = y if self.bias is None else y + op.astype(self.bias, out_dtype)
        return y if residual is None else residual + y


class GPUEmbedding(Module):
    """A table whose rows are looked up, in the model's dtype, and which a tied head shares."""

    def __init__(self, table: StoredMatrix, dtype: str) -> None:
        self.table, self.dtype = table, dtype

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        """Indices (n,) int32 to rows (n, dim)."""
        return self.table.embedding(ids, self.dtype)

    def as_linear(self, x: nn.Tensor) -> nn.Tensor:
        """Logits in float32 of hidden states."""
        return over_rows(x, lambda rows: self.table.product(rows, "float32"))


class GPURMSNorm(RMSNorm):
    """RMS normalisation over the last axis."""

    def __init__(self, layer: RMSNorm, gpu: GPU) -> None:
        self.dim, self.eps, self.unit_offset = layer.dim, layer.eps, layer.unit_offset
        self.weight, self.gpu = layer.weight, gpu

    def forward(self, x: nn.Tensor, add: nn.Tensor | None = None) -> nn.Tensor:
        y = over_rows(x, self._rows)
        return y if add is None else add + y

    def _rows(self, x: nn.Tensor) -> nn.Tensor:
        weight, gpu = self.weight, self.gpu
        kind = RMSNormKind(self.eps, self.unit_offset, str(weight.dtype))

        def alone() -> nn.Tensor:
            how = (kind.eps, kind.unit_offset, kind.weight_dtype, x.dtype)
            kernel = gpu.kernels.rms_norm(self.dim, *how, gpu.capabilities)
            return _call(kernel, [x, weight], x.shape, x.dtype)

        return NormedRows(kind, (x, weight), alone)

    def of_heads(self, qkv: nn.Tensor, attention: AttentionSpec, keys: RMSNorm) -> nn.Tensor:
        kind, other = ((n.eps, n.unit_offset, str(n.weight.dtype)) for n in (self, keys))
        if kind != other:
            return super().of_heads(qkv, attention, keys)
        kernel = self.gpu.kernels.head_norm(attention, *kind, qkv.dtype, self.gpu.capabilities)
        return _call(kernel, [qkv, self.weight, keys.weight], qkv.shape, qkv.dtype)


class GPULayerNorm(Module):
    """Layer normalisation over the last axis."""

    def __init__(self, layer: LayerNorm, gpu: GPU) -> None:
        self.dim, self.eps, self.gpu = layer.dim, layer.eps, gpu
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        """(..., dim) of any rank to the same shape."""
        gpu, bias = self.gpu, self.bias
        weight_dtype, bias_dtype = str(self.weight.dtype), None if bias is None else str(bias.dtype)
        dtypes = (weight_dtype, bias_dtype, x.dtype)
        kernel = gpu.kernels.layer_norm(self.dim, self.eps, *dtypes, gpu.capabilities)
        weights = [self.weight] if bias is None else [self.weight, bias]
        return over_rows(x, lambda rows: _call(kernel, [rows, *weights], rows.shape, x.dtype))


class GPUActivation(Module):
    """A function of each element."""

    def __init__(self, layer: Activation, gpu: GPU) -> None:
        self.name, self.gpu = layer.name, gpu

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        """Any shape to the same shape."""
        gpu = self.gpu
        kernel = gpu.kernels.activation(self.name, x.shape[-1], x.dtype, gpu.capabilities)
        return over_rows(x, lambda rows: _call(kernel, [rows], rows.shape, x.dtype))


class GPUGatedActivation(Module):
    """A function of the first half of the last axis, times the second half."""

    def __init__(self, layer: GatedActivation, gpu: GPU) -> None:
        self.name, self.gpu = layer.name, gpu

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        """(..., 2 n) to (..., n)."""
        return over_rows(x, self._rows)

    def _rows(self, x: nn.Tensor) -> nn.Tensor:
        folded = x.gated(self.name) if isinstance(x, ProductRows) else None
        if folded is not None:
            return folded
        gpu, columns = self.gpu, x.shape[1] // 2
        kernel = gpu.kernels.gated(self.name, columns, x.dtype, gpu.capabilities)
        return _call(kernel, [x], (x.shape[0], columns), x.dtype)


def _call(kernel: Any, args: Sequence[nn.Tensor], shape: Sequence[Any], dtype: str) -> nn.Tensor:
    """Emit a call of a kernel, which is called in the library as its maker called it."""
    return call_kernel(kernel, str(kernel.attrs["global_symbol"]), args, shape, dtype)
