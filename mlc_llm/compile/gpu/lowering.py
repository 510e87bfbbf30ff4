"""A model's layers, replaced by ones that call the GPU's kernels on the parameters as stored."""

from __future__ import annotations

from tvm.relax.frontend import nn

from mlc_llm.compile.gpu.facts import GPUFacts
from mlc_llm.compile.gpu.kernels.activation import silu_mul
from mlc_llm.compile.gpu.kernels.norm import rms_norm
from mlc_llm.compile.gpu.weights import Stored
from mlc_llm.compile.kernel_call import call_kernel
from mlc_llm.compile.layers import GroupQuantizedEmbedding, GroupQuantizedLinear, SiluAndMul
from mlc_llm.plugin import Repack


class GPULinear(nn.Module):
    """A linear layer; its output has the input's dtype, or the one that the model asked for."""

    def __init__(self, stored: Stored, out_dtype: str | None) -> None:
        self.stored, self.out_dtype = stored, out_dtype
        for name, parameter in stored.parameters.items():
            setattr(self, name, parameter)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.stored.linear(x, self.out_dtype or x.dtype)


class GPUEmbedding(nn.Module):
    """A token embedding, whose table a tied output projection shares."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        for name, parameter in stored.parameters.items():
            setattr(self, name, parameter)

    def forward(self, token_ids: nn.Tensor) -> nn.Tensor:
        return self.stored.embedding(token_ids, self.stored.weight.dtype)

    def lm_head_forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.stored.linear(x, "float32")


class GPURMSNorm(nn.Module):
    """RMS normalisation over the last axis of (tokens, hidden)."""

    def __init__(self, norm: nn.RMSNorm, facts: GPUFacts) -> None:
        self.weight, self.epsilon, self.facts = norm.weight, norm.epsilon, facts

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        columns = x.shape[1]
        kernel = rms_norm(columns, self.epsilon, self.weight.dtype, x.dtype, self.facts.wide)
        return call_kernel(kernel, "rms_norm", [x, self.weight], (x.shape[0], columns), x.dtype)


class GPUSiluAndMul(nn.Module):
    """SwiGLU's product."""

    def __init__(self, facts: GPUFacts) -> None:
        self.facts = facts

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        columns = x.shape[1] // 2
        kernel = silu_mul(columns, x.dtype, self.facts.light)
        return call_kernel(kernel, "silu_mul", [x], (x.shape[0], columns), x.dtype)


class Lowering(nn.Mutator):
    """Replaces the layers. Each parameter goes to the GPU as the model folder has it.

    Args:
        facts: the GPU's limits.
    """

    def __init__(self, facts: GPUFacts) -> None:
        self.facts = facts

    def visit_module(self, name: str, node: nn.Module) -> nn.Module:
        match node:
            case GroupQuantizedLinear() | nn.Linear():
                stored = Stored.of(node, node.in_features, self.facts)
                return GPULinear(stored, node.out_dtype)
            case GroupQuantizedEmbedding() | nn.Embedding():
                return GPUEmbedding(Stored.of(node, node.dim, self.facts))
            case nn.RMSNorm():
                return GPURMSNorm(node, self.facts)
            case SiluAndMul():
                return GPUSiluAndMul(self.facts)
        return self.visit(name, node)


def lower(model: nn.Module, facts: GPUFacts) -> tuple[nn.Module, list[Repack]]:
    """The lowered model, and the steps that pass its parameters through.

    Args:
        model: the architecture's module.
        facts: the GPU's limits.
    """
    lowered = Lowering(facts).visit("", model)
    return lowered, [Repack((name,), (name,)) for name, _ in lowered.named_parameters()]
