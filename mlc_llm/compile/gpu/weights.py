"""How the parameters of a layer are stored, and the kernels that read them as they are."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.relax.frontend import nn

from mlc_llm.compile.gpu.facts import GPUFacts
from mlc_llm.compile.gpu.kernels.embedding import embedding
from mlc_llm.compile.gpu.kernels.linear import gemv, matmul
from mlc_llm.compile.gpu.kernels.weight import FloatWeight, Q4Weight, Weight
from mlc_llm.compile.kernel_call import call_kernel
from mlc_llm.compile.layers import GroupQuantizedEmbedding, GroupQuantizedLinear
from mlc_llm.errors import CompileError


@dataclass(frozen=True)
class Stored:
    """How a layer's parameters are stored. The layer has them as attributes.

    Args:
        weight: how they are stored.
        names: the names of the parameters, in the kernels' order.
        facts: the GPU's limits.
    """

    weight: Weight
    names: tuple[str, ...]
    facts: GPUFacts

    @staticmethod
    def of(node: nn.Module, columns: int, facts: GPUFacts) -> Stored:
        """That of a linear or an embedding layer, quantised or not.

        Raises:
            CompileError: there are no kernels for the layer's quantisation, or it has a bias.
        """
        if isinstance(node, GroupQuantizedLinear | GroupQuantizedEmbedding):
            scheme = node.scheme
            if (scheme.bits, scheme.group_size, scheme.storage_dtype) != (4, 32, "uint32"):
                raise CompileError(
                    f"GPUs have no kernels for the quantisation {scheme.name}. Convert the model "
                    "to q4f16_1, q4f32_1, q0f16 or q0f32."
                )
            return Stored(Q4Weight(columns, scheme.model_dtype), ("q_weight", "q_scale"), facts)
        if getattr(node, "bias", None) is not None:
            raise CompileError("GPUs have no kernels for linear layers with a bias.")
        return Stored(FloatWeight(columns, node.weight.dtype), ("weight",), facts)

    def parameters(self, layer: nn.Module) -> list[nn.Parameter]:
        """Those of a layer, in the kernels' order."""
        return [getattr(layer, name) for name in self.names]

    def linear(self, layer: nn.Module, x: nn.Tensor, out_dtype: str) -> nn.Tensor:
        """x (m, columns) times the layer's transposed weight: (m, rows) in `out_dtype`."""
        parameters = self.parameters(layer)
        rows = parameters[0].shape[0]
        known = rows if isinstance(rows, int) else None
        if isinstance(x.shape[0], int) and x.shape[0] == 1:
            kernel = gemv(self.weight, known, x.dtype, out_dtype, self.facts.light)
        else:
            kernel = matmul(self.weight, known, x.dtype, out_dtype)
        name = str(kernel.attrs["global_symbol"])
        return call_kernel(kernel, name, [x, *parameters], (x.shape[0], rows), out_dtype)

    def embedding(self, layer: nn.Module, ids: nn.Tensor, dtype: str) -> nn.Tensor:
        """The rows of the layer's weight that `ids` (n,) int32 names: (n, columns) in `dtype`."""
        kernel = embedding(self.weight, dtype, self.facts.light)
        args, shape = [ids, *self.parameters(layer)], (ids.shape[0], self.weight.columns)
        return call_kernel(kernel, "embedding", args, shape, dtype)
