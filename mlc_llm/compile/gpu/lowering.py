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

    def __init__(self, node: nn.Module, columns: int, facts: GPUFacts) -> None:
        self.stored, self.out_dtype = Stored.of(node, columns, facts), node.out_dtype
        for name in self.stored.names:
            setattr(self, name, getattr(node, name))

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.stored.linear(self, x, self.out_dtype or x.dtype)


class GPUEmbedding(nn.Module):
    """A token embedding, whose table a tied output projection shares."""

    def __init__(self, node: nn.Module, columns: int, facts: GPUFacts) -> None:
        self.stored = Stored.of(node, columns, facts)
        for name in self.stored.names:
            setattr(self, name, getattr(node, name))

    def forward(self, token_ids: nn.Tensor) -> nn.Tensor:
        return self.stored.embedding(self, token_ids, self.stored.weight.dtype)

    def lm_head_forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.stored.linear(self, x, "float32")


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
                return GPULinear(node, node.in_features, self.facts)
            case GroupQuantizedEmbedding() | nn.Embedding():
                return GPUEmbedding(node, node.dim, self.facts)
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
