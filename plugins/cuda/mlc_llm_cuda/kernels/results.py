"""What follows a product, and where its outputs go, as arguments of functions in CUDA C."""

from __future__ import annotations

from mlc_llm.compile.gpu.kernels.launch import Expr
from mlc_llm.compile.gpu.kernels.linear import ProductArguments
from mlc_llm.model.layers import ActivationName
from mlc_llm_cuda.kernels.text import C_TYPES

ACTIVATIONS: dict[ActivationName | None, str] = {
    None: "Ungated",
    "silu": "Silu",
    "gelu": "Gelu",
    "gelu_tanh": "GeluTanh",
    "relu": "Relu",
    "relu2": "Relu2",
}
"""What ``activation.cuh`` calls them."""


def results(given: ProductArguments) -> tuple[str, str, dict[str, Expr]]:
    """The types of outputs and of the bias, then the bias, the residual and y, and the arguments.

    The bias and the residual are ``nullptr`` where a product has none.
    """
    product, bias, residual = given.product, given.bias, given.residual
    out, of_bias = C_TYPES[product.out_dtype], C_TYPES[product.bias or "float32"]
    arguments = {f"{out}* y": given.y.data}
    added = ["nullptr", "nullptr"]
    if bias is not None:
        arguments[f"const {of_bias}* bias"], added[0] = bias.data, "bias"
    if residual is not None:
        arguments[f"const {out}* residual"], added[1] = residual.data, "residual"
    return f"{out}, {of_bias}", f"{', '.join(added)}, y", arguments
