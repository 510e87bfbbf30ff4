"""Which kernels a small graph of layers calls, and what it computes."""

from __future__ import annotations

from collections import Counter

import pytest
import tvm
from tvm import relax
from tvm.relax.frontend import nn

from mlc_llm.compile.layers import SiluAndMul
from mlc_llm.device.cpu.codegen import CPUCodegen
from mlc_llm.device.cpu.features import host_target

HIDDEN, FFN = 32, 64


class Block(nn.Module):
    """A feed-forward block behind a norm; subclasses say how its parts are connected."""

    def __init__(self) -> None:
        self.norm = nn.RMSNorm(HIDDEN, -1, 1e-5, bias=False, dtype="float32")
        self.up = nn.Linear(HIDDEN, 2 * FFN, bias=False, dtype="float32")
        self.act = SiluAndMul()
        self.down = nn.Linear(FFN, HIDDEN, bias=False, dtype="float32")


class Residual(Block):
    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


class ResidualFromTheRight(Block):
    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.down(self.act(self.up(self.norm(x)))) + x


class NormUsedTwice(Block):
    """The norm's result is multiplied, and added as well."""

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        normed = self.norm(x)
        return normed + self.down(self.act(self.up(normed)))


class NormScaled(Block):
    """An operator stands between the norm and the linear layer."""

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return x + self.down(self.act(self.up(self.norm(x) * 0.5)))


class ProductUsedTwice(Block):
    """A linear layer's result is multiplied with itself before anything is added."""

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        product = self.down(self.act(self.up(x)))
        return product * product + x


def called(model: nn.Module) -> Counter[str]:
    """How often each function is called by the traced model."""
    codegen = CPUCodegen(host_target(), {})
    lowered, _ = codegen.lower(model, "decode")
    spec = {"forward": {"x": nn.spec.Tensor(["n", HIDDEN], "float32")}}
    module, _ = lowered.export_tvm(spec)
    calls: Counter[str] = Counter()

    def visit(node: relax.Expr) -> None:
        if isinstance(node, relax.Call):
            name = getattr(node.op, "name", "")
            first = node.args[0] if name == "relax.call_tir" else None
            calls[first.name_hint.rstrip("0123456789") if first else name] += 1

    relax.analysis.post_order_visit(module["forward"], visit)
    return calls


@pytest.mark.parametrize("block", [Residual, ResidualFromTheRight])
def test_a_block_is_two_kernels(block):
    calls = called(block())
    assert calls["float_linear"] == 2
    assert sum(calls.values()) == 2


def test_a_norm_that_is_used_otherwise_is_computed_once():
    calls = called(NormUsedTwice())
    assert calls["rms_norm"] == 1
    assert calls["float_linear"] == 2


def test_an_operator_in_between_takes_the_computed_norm():
    calls = called(NormScaled())
    assert (calls["rms_norm"], calls["relax.multiply"], calls["float_linear"]) == (1, 1, 2)


def test_a_product_that_is_used_otherwise_is_not_fused():
    calls = called(ProductUsedTwice())
    assert (calls["relax.multiply"], calls["relax.add"], calls["float_linear"]) == (1, 1, 2)


def test_the_number_of_arguments_says_what_is_fused():
    """x, the norm's weight, W; and the gated input, W, the residual."""
    codegen = CPUCodegen(host_target(), {})
    lowered, _ = codegen.lower(Residual(), "decode")
    module, _ = lowered.export_tvm({"forward": {"x": nn.spec.Tensor([1, HIDDEN], "float32")}})
    kernels = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    assert sorted(len(kernel.params) for kernel in kernels) == [4, 4]
