"""Which kernels a small graph of layers calls, and what it computes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import tvm
from tvm import relax

from mlc_llm.compile.export import TracedModel
from mlc_llm.device.cpu.codegen import CPUCodegen
from mlc_llm.device.cpu.features import host_target
from mlc_llm.model.layers import GatedActivation, LayerNorm, Linear, RMSNorm
from mlc_llm.model.module import Module
from mlc_llm.quantization import plan

HIDDEN, FFN = 32, 64


class Block(Module):
    """A feed-forward block behind a norm; subclasses say how its parts are connected."""

    def __init__(self) -> None:
        self.norm = RMSNorm(HIDDEN, 1e-5)
        self.up = Linear(HIDDEN, 2 * FFN)
        self.act = GatedActivation("silu")
        self.down = Linear(FFN, HIDDEN)


class Residual(Block):
    def forward(self, x: Any) -> Any:
        return x + self.down(self.act(self.up(self.norm(x))))


class ResidualFromTheRight(Block):
    def forward(self, x: Any) -> Any:
        return self.down(self.act(self.up(self.norm(x)))) + x


class NormUsedTwice(Block):
    """The norm's result is multiplied, and added as well."""

    def forward(self, x: Any) -> Any:
        normed = self.norm(x)
        return normed + self.down(self.act(self.up(normed)))


class NormScaled(Block):
    """An operator stands between the norm and the linear layer."""

    def forward(self, x: Any) -> Any:
        return x + self.down(self.act(self.up(self.norm(x) * 0.5)))


class ProductUsedTwice(Block):
    """A linear layer's result is multiplied with itself before anything is added."""

    def forward(self, x: Any) -> Any:
        product = self.down(self.act(self.up(x)))
        return product * product + x


class BiasedResidual(Residual):
    """The layers of GPT-2 in place of Llama's."""

    def __init__(self) -> None:
        self.norm = LayerNorm(HIDDEN, 1e-5)
        self.up = Linear(HIDDEN, 2 * FFN, bias=True)
        self.act = GatedActivation("gelu_tanh")
        self.down = Linear(FFN, HIDDEN, bias=True)


def traced(model: Module, rows: int | str) -> tvm.IRModule:
    """The model's `forward` as it is lowered for the CPU."""
    codegen = CPUCodegen(host_target(), {})
    lowered, _ = codegen.lower(model, plan("q0f32"), "decode")
    builder = relax.BlockBuilder()
    inputs = {"x": ([rows, HIDDEN], "float32")}
    TracedModel(lowered).function(builder, "forward", inputs, lowered)
    return builder.finalize()


def called(model: Module) -> Counter[str]:
    """How often each function is called by the traced model."""
    module = traced(model, "n")
    calls: Counter[str] = Counter()

    def visit(node: relax.Expr) -> None:
        if isinstance(node, relax.Call):
            name = getattr(node.op, "name", "")
            first = node.args[0] if name == "relax.call_tir" else None
            calls[first.name_hint.rstrip("0123456789") if first else name] += 1

    relax.analysis.post_order_visit(module["forward"], visit)
    return calls


def linears(calls: Counter[str]) -> int:
    """How many calls multiply with a weight."""
    return sum(count for name, count in calls.items() if name.endswith("float_linear"))


@pytest.mark.parametrize("block", [Residual, ResidualFromTheRight, BiasedResidual])
def test_a_block_is_two_kernels(block):
    calls = called(block())
    assert linears(calls) == 2
    assert sum(calls.values()) == 2


def test_a_norm_that_is_used_otherwise_is_computed_once():
    calls = called(NormUsedTwice())
    assert calls["rms_norm"] == 1
    assert linears(calls) == 2


def test_an_operator_in_between_takes_the_computed_norm():
    calls = called(NormScaled())
    assert (calls["rms_norm"], calls["relax.multiply"], linears(calls)) == (1, 1, 2)


def test_a_product_that_is_used_otherwise_is_not_fused():
    calls = called(ProductUsedTwice())
    assert (calls["relax.multiply"], calls["relax.add"], linears(calls)) == (1, 1, 2)


def test_the_number_of_arguments_says_what_is_fused():
    """x, the norm's weight, W; and the gated input, W, the residual."""
    functions = traced(Residual(), 1).functions.values()
    kernels = [f for f in functions if isinstance(f, tvm.tirx.PrimFunc)]
    assert sorted(len(kernel.params) for kernel in kernels) == [4, 4]
