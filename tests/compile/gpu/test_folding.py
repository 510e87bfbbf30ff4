"""What is folded into the kernels of products, and what is left a kernel of its own.

What the kernels compute is tested where they run: `mlc_llm.testing.gpu_kernels`, and the layers'
cases on each device.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from tvm import ir, relax, tirx

from mlc_llm.compile.export import TracedModel
from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen
from mlc_llm.compile.gpu.kernels.linear import Product, gemv
from mlc_llm.compile.gpu.makers import KernelMakers
from mlc_llm.model import op
from mlc_llm.model.layers import GatedActivation, LayerNorm, Linear, RMSNorm
from mlc_llm.model.module import Module
from mlc_llm.plugin import Scheme
from mlc_llm.quantization import PLANS

PLAN = PLANS["q4f16_1"].model_copy(
    update={
        "exceptions": {
            "mixed.weight": (Scheme(4, "float16", group=32, zero=7), Scheme(16, "float16"))
        }
    }
)


@cache
def normed_gemv(product: Product, capabilities: GPUCapabilities) -> tirx.PrimFunc:
    """A backend's kernel that takes a norm in, as far as its arguments and its name tell."""
    kernel = gemv(product, capabilities)
    name = "normed_gemv" if product.norm else "gemv"
    return kernel.with_attr("global_symbol", name)


class Backend(GPUCodegen):
    """It takes in all norms but those with an offset."""

    kernels = KernelMakers(
        gemv=normed_gemv,
        folds_norm=lambda product, _: product.norm is not None and not product.norm.unit_offset,
    )


class Net(Module):
    """Layers, put together as a test says.

    Args:
        compute: of the layers and x (rows, 64), and perhaps other tensors.
    """

    def __init__(self, compute: Callable[..., Any]) -> None:
        self.norm, self.layer_norm = RMSNorm(64, 1e-5), LayerNorm(64, 1e-5)
        self.offset_norm = RMSNorm(64, 1e-5, unit_offset=True)
        self.up, self.gate_up = Linear(64, 96, bias=True), Linear(64, (96, 96), bias=True)
        self.mixed = Linear(64, (96, 96))
        self.down, self.square = Linear(96, 64), Linear(64, 64)
        self.head, self.act = Linear(64, "vocab_size", out_dtype="float32"), GatedActivation("silu")
        self.compute = compute

    def forward(self, *given: Any) -> Any:
        return self.compute(self, *given)


def calls(
    compute: Callable[..., Any], *shapes: tuple[int | str, ...], rows: int | str = 1
) -> list[str]:
    """What a function calls in turn: kernels by their names without numbers, and operators.

    Args:
        compute: of the layers and tensors.
        shapes: of the tensors; by default one of `rows` rows.
        rows: see there.
    """
    model, _ = Backend(GPUCapabilities(), {}).lower(Net(compute), PLAN, "decode")
    inputs = {f"x{i}": (list(shape), "float16") for i, shape in enumerate(shapes or [(rows, 64)])}
    builder, found = relax.BlockBuilder(), []
    TracedModel(model).function(builder, "run", inputs, model)
    for block in builder.finalize()["run"].body.blocks:
        for binding in block.bindings:
            if isinstance(binding.value, relax.Call):
                kernel = binding.value.args[0]
                is_kernel = isinstance(kernel, ir.GlobalVar)
                name = kernel.name_hint if is_kernel else binding.value.op.name
                found.append(name.rstrip("0123456789"))
    return found


def layer(m: Net, x: Any) -> Any:
    """A feed-forward layer of a Llama."""
    return m.down(m.act(m.gate_up(m.norm(x))), add=x)


def test_a_layer_with_one_row_is_two_kernels() -> None:
    assert calls(layer) == ["normed_gemv", "gemv"]


def test_norms_of_many_rows_are_kernels_of_their_own() -> None:
    assert calls(layer, rows="n") == ["rms_norm", "matmul", "matmul"]


def test_the_last_norm_is_folded_into_the_head() -> None:
    assert calls(lambda m, x: m.head(m.norm(x))) == ["normed_gemv"]


@pytest.mark.parametrize(
    ("compute", "expected"),
    [
        (lambda m, x: m.up(m.layer_norm(x)), ["layer_norm", "gemv"]),
        (lambda m, x: m.up(m.offset_norm(x)), ["rms_norm", "gemv"]),
        (lambda m, x: m.norm(x), ["rms_norm"]),
        (lambda m, x: m.square(op.tanh(m.norm(x))), ["rms_norm", "relax.tanh", "gemv"]),
    ],
    ids=["of another kind", "not of the backend", "of the result", "of an operator"],
)
def test_a_norm_that_is_not_folded(compute: Callable[..., Any], expected: list[str]) -> None:
    assert calls(compute) == expected


def test_two_products_take_in_the_same_norm() -> None:
    def beside(m: Net, x: Any) -> Any:
        normed = m.norm(x)
        return m.square(normed, add=m.down(m.up(normed)))

    assert calls(beside) == ["normed_gemv", "gemv", "normed_gemv"]


def test_a_norm_that_is_also_used_otherwise_is_computed_once() -> None:
    def added(m: Net, x: Any) -> Any:
        normed = m.norm(x)
        return m.square(normed, add=normed) + normed

    assert sorted(calls(added)) == ["normed_gemv", "relax.add", "rms_norm"]


def test_an_activation_of_a_product_that_is_used_already() -> None:
    def both(m: Net, x: Any) -> Any:
        inner = m.gate_up(x)
        return op.sum(inner) + m.act(inner)

    assert calls(both) == ["gemv", "relax.sum", "silu_mul", "relax.add"]


def test_an_activation_of_several_kernels_is_one_of_its_own() -> None:
    assert calls(lambda m, x: m.act(m.mixed(x))) == ["gemv", "gemv", "relax.concat", "silu_mul"]


def test_an_activation_of_what_a_residual_was_added_to() -> None:
    assert calls(lambda m, x: m.act(m.square(x, add=x))) == ["gemv", "silu_mul"]


def test_a_residual_of_another_shape_is_broadcast() -> None:
    shapes = ("n", 64), (1, 64)
    assert calls(lambda m, x, r: m.square(x, add=r), *shapes) == ["matmul", "relax.add"]


def test_more_axes_hide_what_is_before() -> None:
    """Rows are put together for a kernel, and a norm is then computed."""
    expected = ["relax.reshape", "rms_norm", "relax.reshape", "relax.reshape", "matmul"]
    assert calls(lambda m, x: m.square(m.norm(x)), (2, 3, 64))[:5] == expected
