"""Models lowered for a GPU: their parameters, and the table of what makes the kernels."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import tvm
from tvm import relax, tirx

from mlc_llm.compile.export import TracedModel
from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen
from mlc_llm.compile.gpu.kernels.linear import Product, gemv, matmul
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.compile.gpu.makers import KernelMakers, MakeProduct
from mlc_llm.compile.gpu.schemes import has_scheme
from mlc_llm.config import check_options
from mlc_llm.errors import ConfigError
from mlc_llm.model.layers import Activation, Embedding, LayerNorm, Linear, RMSNorm
from mlc_llm.model.module import Module, Parameter, named_parameters
from mlc_llm.model.stored import stored_parameters
from mlc_llm.plugin import AttentionSpec, Device, Plan, Scheme
from mlc_llm.quantization import PLANS
from mlc_llm.testing import raises
from mlc_llm.testing.paged_attention import describe

WEAKEST = GPUCapabilities()
PARTS = (Scheme(4, "float16", group=32), Scheme(8, "float16", group=16, zero=128))
MIXED = PLANS["q4f16_0"].model_copy(
    update={"exceptions": {"blocks.0.first.weight": PARTS, "blocks.1.first.weight": PARTS[1:]}}
)
HEADS = describe((2, 1), 8)


class Block(Module):
    """Linear layers, and parameters that no kernel takes."""

    def __init__(self) -> None:
        self.norm = LayerNorm(32, 1e-5)
        self.first = Linear(32, (20, 12), bias=True)
        self.activation = Activation("gelu")
        self.second = Linear(32, 32, out_dtype="float32")
        self.scales = [Parameter((32,)), Parameter((32,), "float32")]

    def forward(self, x: Any) -> Any:
        return self.second(self.activation(self.first(self.norm(x))) * self.scales[0])


class Model(Module):
    """Two blocks between a table and its transpose."""

    def __init__(self) -> None:
        self.table = Embedding("vocab_size", 32)
        self.blocks = [Block(), Block()]
        self.queries, self.keys = (RMSNorm(HEADS.key_size, 1e-5) for _ in range(2))

    def forward(self, ids: Any) -> Any:
        x = self.queries.of_heads(self.table(ids), HEADS, self.keys)
        return self.table.as_linear(self.blocks[0](x))


TAKEN = [plan for plan in PLANS.values() if all(map(has_scheme, plan.all_schemes()))]


@pytest.mark.parametrize("plan", [*TAKEN, MIXED], ids=lambda plan: plan.name)
def test_every_stored_tensor_is_taken_as_it_is(plan: Plan) -> None:
    stored = {one.name: (one.shape, one.dtype) for one in stored_parameters(Model(), plan)}
    lowered, steps = GPUCodegen(WEAKEST, {}).lower(Model(), plan, "decode")
    parameters = {name: (one.shape, one.dtype) for name, one in named_parameters(lowered).items()}
    assert all(step.kernel is None for step in steps)
    names = [(step.inputs, step.outputs) for step in steps]
    assert sorted(name for (name,), _ in names) == sorted(stored)
    assert sorted(name for _, (name,) in names) == sorted(parameters)
    for (given,), (made,) in names:
        assert parameters[made] == stored[given]


def test_parts_are_read_in_their_own_schemes() -> None:
    _, steps = GPUCodegen(WEAKEST, {}).lower(Model(), MIXED, "decode")
    inputs = {name for step in steps for name in step.inputs}
    assert {f"blocks.0.first.0.q_{part}" for part in ("weight", "scale", "min")} <= inputs
    assert {f"blocks.0.first.1.q_{part}" for part in ("weight", "scale")} <= inputs
    assert {f"blocks.1.first.q_{part}" for part in ("weight", "scale")} <= inputs


def traced(codegen: GPUCodegen, rows: int | str, plan: Plan = MIXED) -> tvm.IRModule:
    """The module of the model above."""
    model, _ = codegen.lower(Model(), plan, "decode")
    builder = relax.BlockBuilder()
    TracedModel(model).function(builder, "run", {"ids": ([rows], "int32")}, model)
    return builder.finalize()


def kernel_names(module: tvm.IRModule) -> set[str]:
    """The names of a module's kernels, without numbers."""
    kernels = (v for v, f in module.functions_items() if isinstance(f, tirx.PrimFunc))
    return {variable.name_hint.rstrip("0123456789") for variable in kernels}


def test_every_layer_takes_its_kernel() -> None:
    shared = {"embedding", "head_norm", "layer_norm", "gelu"}
    assert kernel_names(traced(GPUCodegen(WEAKEST, {}), 1)) == {*shared, "gemv"}
    assert kernel_names(traced(GPUCodegen(WEAKEST, {}), "n")) == {*shared, "matmul"}


@cache
def gemv_of_bytes(product: Product, capabilities: GPUCapabilities) -> tirx.PrimFunc:
    """A backend's own kernel: for weights of 8 bits, and the shared one for others."""
    kernel = gemv(product, capabilities)
    if product.weight.scheme.bits != 8:
        return kernel
    assert capabilities.subgroup_width == 32
    return kernel.with_attr("global_symbol", "gemv_of_bytes")


def own_decode(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> tirx.PrimFunc:
    """A backend's own attention."""
    return KernelMakers().prefill(spec, dtype, activation_dtype, capabilities)


class Backend(GPUCodegen):
    """A codegen with two kernels of its own."""

    kernels = KernelMakers(gemv=gemv_of_bytes, decode=own_decode)


def test_a_backend_replaces_kernels() -> None:
    backend = Backend(GPUCapabilities(subgroup_width=32), {})
    assert {"gemv_of_bytes", "gemv"} <= kernel_names(traced(backend, 1))
    assert "gemv_of_bytes" not in kernel_names(traced(backend, "n"))
    assert "gemv_of_bytes" not in kernel_names(traced(GPUCodegen(WEAKEST, {}), 1))
    own, shared = (
        codegen.attention(HEADS, "float16", "float16")
        for codegen in (backend, GPUCodegen(WEAKEST, {}))
    )
    assert own.decode.same_as(shared.prefill)
    assert own.prefill.same_as(shared.prefill)


@pytest.mark.parametrize("make", [gemv, matmul])
def test_equal_kernels_are_made_once(make: MakeProduct) -> None:
    first, second = (Product(weight_of(PARTS[0], 64), 4, "float16", "float16") for _ in range(2))
    assert make(first, WEAKEST) is make(second, GPUCapabilities())


def test_a_gpu_has_no_options() -> None:
    """`check_options` refuses what a device does not name; a codegen does not look at it."""
    with raises("option-unknown", "activations", error=ConfigError):
        check_options({"activations": "a8"}, Device.options)
