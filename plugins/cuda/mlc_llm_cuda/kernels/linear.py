"""Products of few tokens with weights of 4 bits: see ``q4_linear.cuh``.

Products, sums and the bias are float32, and no weight is rounded: the bounds of
:mod:`mlc_llm.compile.gpu.kernels.linear` hold. (Tensor cores add the 16 products of an instruction
with fewer guard bits than IEEE asks for: that costs units of roundoff, no more.)
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels import linear as shared_linear
from mlc_llm.compile.gpu.kernels.launch import (
    Expr,
    ceil_div,
    i32,
    kernel,
    launch,
    shared,
    size,
)
from mlc_llm.compile.gpu.kernels.linear import Product, ProductArguments, multiply_tiles
from mlc_llm_cuda.kernels.text import C_TYPES, call

INSTRUCTION = "m16n8k16"
"""The instruction of tensor cores that the kernel needs, as capabilities name it."""

MOST_TOKENS = 16
FILES = ("ptx.cuh", "q4_linear.cuh")
GROUP, WARPS, ROWS, TILE = 32, 8, 16, 8
"""The kernel's ``kQ4Group``, ``kQ4Warps`` and ``kQ4Rows``, and the tokens of a tile."""


def is_covered(product: Product, capabilities: GPUCapabilities) -> bool:
    """Whether there is a kernel for a product; scales of a row must be whole words."""
    weight, scheme = product.weight, product.weight.scheme
    return (
        INSTRUCTION in capabilities.matrix_instructions
        and (scheme.bits, scheme.group, scheme.dtype) == (4, GROUP, "float16")
        and scheme.zero is not None
        and scheme.layout == "rows"
        and not scheme.has_two_levels
        and weight.columns % (2 * GROUP) == 0
        and product.dtype == "float16"
        and product.out_dtype in C_TYPES
        and (product.bias is None or product.bias in C_TYPES)
    )


@cache
def gemv(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.kernels.linear.gemv`."""
    if not is_covered(product, capabilities):
        return shared_linear.gemv(product, capabilities)
    with kernel("q4_gemv") as built:
        n = size(product.outputs)
        given = ProductArguments.declare(product, i32(1), n)
        _multiply_few(product, given, i32(1), n, tiles=1)
    return built.get()


@cache
def matmul(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.kernels.linear.matmul`, whose tiles take many tokens."""
    if not is_covered(product, capabilities):
        return shared_linear.matmul(product, capabilities)
    with kernel("q4_matmul") as built:
        m, n = size(), size(product.outputs)
        given = ProductArguments.declare(product, m, n)
        with T.If(m <= i32(MOST_TOKENS)):
            with T.Then():
                _multiply_few(product, given, m, n, tiles=MOST_TOKENS // TILE)
            with T.Else():
                multiply_tiles(product, given, m, n)
    return built.get()


def _multiply_few(
    product: Product, given: ProductArguments, tokens: Expr, outputs: Expr, tiles: int
) -> None:
    """The launch for up to TILE x tiles tokens."""
    columns, zero = product.weight.columns, product.weight.scheme.zero
    out, bias = C_TYPES[product.out_dtype], C_TYPES[product.bias or "float32"]
    tensors = given.weight.tensors()
    with launch([ceil_div(outputs, ROWS)], WARPS * 32):
        partial = shared((WARPS * TILE * tiles * ROWS,))
        arguments = {
            "const half* x": given.x.data,
            "const unsigned* words": tensors[0].data,
            "const half* scales": tensors[1].data,
            f"{out}* y": given.y.data,
            "int rows": outputs,
            "int tokens": tokens,
            "float* partial": partial.data,
        }
        if given.bias is not None:
            arguments[f"const {bias}* bias"] = given.bias.data
        passed_bias = f"static_cast<const {bias}*>({'nullptr' if given.bias is None else 'bias'})"
        kind = f"{columns}, {zero}, {tiles}, {out}, {bias}"
        call(
            f"q4_linear_{columns}_{zero}_{tiles}_{out}_{product.bias or 'no'}_bias",
            arguments,
            f"q4_linear<{kind}>(x, words, scales, {passed_bias}, y, rows, tokens, partial);",
            FILES,
        )
