"""A model's layers, replaced by ones that call the CPU's kernels on packed weights."""

from __future__ import annotations

from tvm.relax.frontend import nn

from mlc_llm.compile.kernel_call import call_kernel
from mlc_llm.compile.layers import GroupQuantizedEmbedding, GroupQuantizedLinear, SiluAndMul
from mlc_llm.device.cpu.deferred import DeferredRows, LinearInput
from mlc_llm.device.cpu.kernels.activation import silu_mul
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.norm import rms_norm
from mlc_llm.device.cpu.kernels.rows import GATED, RowsOf
from mlc_llm.device.cpu.packed import ACTIVATION, PackedFloat, PackedQ4
from mlc_llm.plugin import Repack


class CPULinear(nn.Module):
    """A linear layer on a packed weight; it keeps an output dtype that the model asked for."""

    def __init__(self, packed: PackedQ4 | PackedFloat, out_dtype: str | None) -> None:
        self.packed = packed
        self.out_dtype = out_dtype or ACTIVATION

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.packed.linear(x, self.out_dtype)


class CPUEmbedding(nn.Module):
    """A token embedding from a packed table, which a tied output projection shares."""

    def __init__(self, packed: PackedQ4 | PackedFloat) -> None:
        self.packed = packed

    def forward(self, token_ids: nn.Tensor) -> nn.Tensor:
        return self.packed.embedding(token_ids)

    def lm_head_forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.packed.linear(x, "float32")


class CPURMSNorm(nn.Module):
    """RMS normalisation over the last axis, deferred."""

    def __init__(self, norm: nn.RMSNorm, isa: Isa) -> None:
        self.weight, self.epsilon, self.isa = norm.weight, norm.epsilon, isa

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        columns = x.shape[1]

        def alone() -> nn.Tensor:
            kernel = rms_norm(columns, self.epsilon, self.weight.dtype, x.dtype, self.isa)
            return call_kernel(kernel, "rms_norm", [x, self.weight], (x.shape[0], columns), x.dtype)

        rows = RowsOf("normed", self.epsilon, self.weight.dtype)
        return DeferredRows(LinearInput(rows, (x, self.weight)), columns, alone)


class CPUSiluAndMul(nn.Module):
    """SwiGLU's product, deferred."""

    def __init__(self, isa: Isa) -> None:
        self.isa = isa

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        columns = x.shape[1] // 2

        def alone() -> nn.Tensor:
            kernel = silu_mul(columns, x.dtype, self.isa)
            return call_kernel(kernel, "silu_mul", [x], (x.shape[0], columns), x.dtype)

        return DeferredRows(LinearInput(GATED, (x,)), columns, alone)


class Lowering(nn.Mutator):
    """Replaces the layers, and collects how their parameters are made.

    Args:
        isa: what the CPU offers.
        activations: how 4-bit matmuls round activations: "a8" or "a16".
    """

    def __init__(self, isa: Isa, activations: str) -> None:
        self.isa, self.activations = isa, activations
        self.steps: list[Repack] = []

    def visit_module(self, name: str, node: nn.Module) -> nn.Module:
        match node:
            case GroupQuantizedLinear() | nn.Linear():
                packed = self._packed(node, node.out_features, node.in_features)
                self.steps.append(packed.repack(name, "packed"))
                return CPULinear(packed, node.out_dtype)
            case GroupQuantizedEmbedding() | nn.Embedding():
                packed = self._packed(node, node.num, node.dim)
                self.steps.append(packed.repack(name, "packed"))
                return CPUEmbedding(packed)
            case nn.RMSNorm():
                self.steps.append(Repack((f"{name}.weight",), (f"{name}.weight",)))
                return CPURMSNorm(node, self.isa)
            case SiluAndMul():
                return CPUSiluAndMul(self.isa)
        return self.visit(name, node)

    def visit_param(self, name: str, node: nn.Parameter) -> nn.Parameter:
        self.steps.append(Repack((name,), (name,)))
        return node

    def _packed(self, node: nn.Module, features: int | str, columns: int) -> PackedQ4 | PackedFloat:
        rows = features if isinstance(features, int) else None
        if isinstance(node, GroupQuantizedLinear | GroupQuantizedEmbedding):
            dtype = node.scheme.model_dtype
            return PackedQ4(rows, columns, dtype, self.isa, self.activations)
        return PackedFloat(rows, columns, node.weight.dtype, self.isa)
