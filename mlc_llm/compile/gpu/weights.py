"""The stored parameters of a layer, and the kernels that read them as they are."""

from __future__ import annotations

from tvm.relax.frontend import nn

from mlc_llm.compile.gpu.facts import GPUFacts
from mlc_llm.compile.gpu.kernels.embedding import embedding
from mlc_llm.compile.gpu.kernels.linear import gemv, matmul
from mlc_llm.compile.gpu.kernels.weight import FloatWeight, Q4Weight, Weight
from mlc_llm.compile.kernel_call import call_kernel
from mlc_llm.compile.layers import GroupQuantizedEmbedding, GroupQuantizedLinear
from mlc_llm.errors import CompileError


class Stored:
    """The parameters that a layer keeps, and how they are stored.

    Args:
        weight: how they are stored.
        parameters: the layer's parameters by their names, in the kernels' order.
        facts: the GPU's limits.
    """

    def __init__(
        self, weight: Weight, parameters: dict[str, nn.Parameter], facts: GPUFacts
    ) -> None:
        self.weight, self.parameters, self.facts = weight, parameters, facts

    @staticmethod
    def of(node: nn.Module, columns: int, facts: GPUFacts) -> Stored:
        """Those of a linear or an embedding layer, quantised or not.

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
            parameters = {"q_weight": node.q_weight, "q_scale": node.q_scale}
            return Stored(Q4Weight(columns, scheme.model_dtype), parameters, facts)
        if getattr(node, "bias", None) is not None:
            raise CompileError("GPUs have no kernels for linear layers with a bias.")
        return Stored(FloatWeight(columns, node.weight.dtype), {"weight": node.weight}, facts)

    @property
    def _rows(self) -> object:
        return next(iter(self.parameters.values())).shape[0]

    def linear(self, x: nn.Tensor, out_dtype: str) -> nn.Tensor:
        """x (m, columns) times the transposed weight: (m, rows) in `out_dtype`."""
        known = self._rows if isinstance(self._rows, int) else None
        if isinstance(x.shape[0], int) and x.shape[0] == 1:
            kernel = gemv(self.weight, known, x.dtype, out_dtype, self.facts.light)
        else:
            kernel = matmul(self.weight, known, x.dtype, out_dtype)
        name = str(kernel.attrs["global_symbol"])
        args = [x, *self.parameters.values()]
        return call_kernel(kernel, name, args, (x.shape[0], self._rows), out_dtype)

    def embedding(self, ids: nn.Tensor, dtype: str) -> nn.Tensor:
        """The rows that `ids` (n,) int32 names: (n, columns) in `dtype`."""
        kernel = embedding(self.weight, dtype, self.facts.light)
        args = [ids, *self.parameters.values()]
        return call_kernel(kernel, "embedding", args, (ids.shape[0], self.weight.columns), dtype)
