"""Which kernels a small graph of layers calls, and a whole model."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import tvm
from tvm import relax

from mlc_llm.compile.export import CacheKernels, TracedModel, export_model
from mlc_llm.device.cpu.codegen import CPUCodegen
from mlc_llm.device.cpu.features import host_target
from mlc_llm.model.layers import GatedActivation, LayerNorm, Linear, RMSNorm
from mlc_llm.model.llama import LLAMA
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
        return self.down(self.act(self.up(self.norm(x))), add=x)


class BiasedResidual(Residual):
    """The layers of GPT-2 in place of Llama's."""

    def __init__(self) -> None:
        self.norm = LayerNorm(HIDDEN, 1e-5)
        self.up = Linear(HIDDEN, 2 * FFN, bias=True)
        self.act = GatedActivation("gelu_tanh")
        self.down = Linear(FFN, HIDDEN, bias=True)


class SumOutside(Block):
    """The residual is added by an operator, and not by the layer."""

    def forward(self, x: Any) -> Any:
        return x + self.down(self.act(self.up(self.norm(x))))


class NormUsedTwice(Block):
    """The norm's result is multiplied, and added as well."""

    def forward(self, x: Any) -> Any:
        normed = self.norm(x)
        return self.down(self.act(self.up(normed)), add=normed)


class NormScaled(Block):
    """An operator stands between the norm and the linear layer."""

    def forward(self, x: Any) -> Any:
        return self.down(self.act(self.up(self.norm(x) * 0.5)), add=x)


class OtherShape(Block):
    """What is added has one column, for all columns of the result."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Linear(HIDDEN, 1)

    def forward(self, x: Any) -> Any:
        return self.down(self.act(self.up(self.norm(x))), add=self.gate(x))


def traced(model: Module, rows: int | str) -> tvm.IRModule:
    """The model's `forward` as it is lowered for the CPU."""
    codegen = CPUCodegen(host_target(), {})
    lowered, _ = codegen.lower(model, plan("q0f32"), "decode")
    builder = relax.BlockBuilder()
    inputs = {"x": ([rows, HIDDEN], "float32")}
    TracedModel(lowered).function(builder, "forward", inputs, lowered)
    return builder.finalize()


def calls_of(function: relax.Function) -> Counter[str]:
    """How often each kernel or operator is called by a traced function."""
    calls: Counter[str] = Counter()

    def visit(node: relax.Expr) -> None:
        if isinstance(node, relax.Call):
            name = getattr(node.op, "name", "")
            first = node.args[0] if name.startswith("relax.call_tir") else None
            calls[first.name_hint.rstrip("0123456789") if first else name] += 1

    relax.analysis.post_order_visit(function, visit)
    return calls


def called(model: Module) -> Counter[str]:
    """How often each function is called by the traced model."""
    return calls_of(traced(model, "n")["forward"])


def linears(calls: Counter[str]) -> int:
    """How many calls multiply with a weight."""
    return sum(count for name, count in calls.items() if name.endswith("float_linear"))


@pytest.mark.parametrize("block", [Residual, BiasedResidual])
def test_a_block_is_two_kernels(block):
    calls = called(block())
    assert linears(calls) == 2
    assert sum(calls.values()) == 2


def test_a_sum_outside_of_the_layer_is_an_operator():
    calls = called(SumOutside())
    assert (calls["relax.add"], linears(calls)) == (1, 2)
    assert sum(calls.values()) == 3


def test_a_norm_that_is_used_otherwise_is_computed_once():
    calls = called(NormUsedTwice())
    assert calls["rms_norm"] == 1
    assert linears(calls) == 2
    assert sum(calls.values()) == 3


def test_an_operator_in_between_takes_the_computed_norm():
    calls = called(NormScaled())
    assert (calls["rms_norm"], calls["relax.multiply"], linears(calls)) == (1, 1, 2)


def test_what_has_another_shape_is_added_by_an_operator():
    calls = called(OtherShape())
    assert (calls["relax.add"], linears(calls)) == (1, 3)


def test_the_number_of_arguments_says_what_is_fused():
    """x, the norm's weight, W; and the gated input, W, the residual."""
    functions = traced(Residual(), 1).functions.values()
    kernels = [f for f in functions if isinstance(f, tvm.tirx.PrimFunc)]
    assert sorted(len(kernel.params) for kernel in kernels) == [4, 4]


LAYERS = 3
LLAMA_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "context_window_size": 64,
}


@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_1"])
@pytest.mark.parametrize("more", [{}, {"attention_bias": True, "mlp_bias": True}])
def test_llamas_layer_is_six_kernels(quantization, more):
    """Norms, the product of gate and up, biases and residuals are computed in linear kernels."""
    stored, config = plan(quantization), LLAMA.config({**LLAMA_SHAPE, **more})
    codegen = CPUCodegen(host_target(), {})
    model, _ = codegen.lower(LLAMA.module(config), stored, "decode")
    cache = CacheKernels(
        LLAMA.attention(config),
        lambda spec: codegen.attention(spec, stored.dtype, "float32"),
        stored.dtype,
    )
    module, _ = export_model({"prefill": model, "decode": model}, cache, "prefill", single=True)
    kind = "group" if "q4" in quantization else "float"
    layer = {
        f"{kind}_linear": 3,  # queries, keys and values; what attention gives; gate and up
        f"gated_{kind}_linear": 1,
        "attention_append": 1,
        "attention_decode": 1,
    }
    expected = Counter({name: LAYERS * count for name, count in layer.items()})
    expected += Counter({f"{kind}_embedding": 1, f"{kind}_linear": 1})
    assert calls_of(module["decode"]) == expected
