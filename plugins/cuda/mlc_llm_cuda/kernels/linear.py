"""Products of few tokens with weights of 4 bits: see ``q4_linear.cuh``.

Products, sums and what follows them are float32, and no weight is rounded: the bounds of
:mod:`mlc_llm.compile.gpu.kernels.linear` hold. (Tensor cores add the 16 products of an instruction
with fewer guard bits than IEEE asks for: that costs units of roundoff, no more.)
"""

from __future__ import annotations

import re
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels.launch import (
    Expr,
    ceil_div,
    f32,
    i32,
    kernel,
    launch,
    shared,
    size,
)
from mlc_llm.compile.gpu.kernels.linear import Product, ProductArguments
from mlc_llm_cuda.kernels import gemv as other
from mlc_llm_cuda.kernels import matmul as many
from mlc_llm_cuda.kernels.matmul import INSTRUCTION as INSTRUCTION
from mlc_llm_cuda.kernels.results import ACTIVATIONS, results
from mlc_llm_cuda.kernels.text import C_TYPES, call

MOST_TOKENS = 16
FILES = ("ptx.cuh", "activation.cuh", "input_rows.cuh", "q4_linear.cuh")
GROUP, WARPS, ROWS, TILE = 32, 8, 16, 8
"""The kernel's ``kQ4Group``, ``kQ4Warps`` and ``kQ4Rows``, and the tokens of a tile."""
THREADS = 32 * WARPS


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
        and product.gate in ACTIVATIONS
    )


def folds_norm(product: Product, capabilities: GPUCapabilities) -> bool:
    """As :class:`mlc_llm.compile.gpu.makers.FoldsNorm`."""
    return (
        is_covered(product, capabilities)
        and product.norm is not None
        and product.norm.weight_dtype in C_TYPES
        and _row_fits(product, capabilities)
    )


def _row_fits(product: Product, capabilities: GPUCapabilities) -> bool:
    """Whether shared memory has room for a row of x, beside the sums of a tile."""
    needed = 2 * product.weight.columns + 4 * WARPS * TILE * ROWS
    return needed <= capabilities.shared_memory


@cache
def gemv(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.kernels.linear.gemv`."""
    if not is_covered(product, capabilities):
        return other.gemv(product, capabilities)
    with kernel("q4_gemv") as built:
        n = size(product.outputs)
        given = ProductArguments.declare(product, i32(1), n)
        _multiply_few(given, i32(1), n, tiles=1, staged=_row_fits(product, capabilities))
    return built.get()


@cache
def matmul(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.kernels.linear.matmul`; :mod:`.matmul` takes many tokens."""
    if not is_covered(product, capabilities):
        return many.matmul(product, capabilities)
    with kernel("q4_matmul") as built:
        m, n = size(), size(product.outputs)
        given = ProductArguments.declare(product, m, n)
        with T.If(m <= i32(MOST_TOKENS)):
            with T.Then():
                _multiply_few(given, m, n, tiles=MOST_TOKENS // TILE)
            with T.Else():
                many.multiply_many(given, m, n)
    return built.get()


def _multiply_few(
    given: ProductArguments, tokens: Expr, outputs: Expr, tiles: int, staged: bool = False
) -> None:
    """The launch for up to TILE x tiles tokens; one of them may be staged in shared memory."""
    product, (words, scales) = given.product, given.weight.tensors()
    columns, zero = product.weight.columns, product.weight.scheme.zero
    with launch([ceil_div(outputs, ROWS // product.parts)], THREADS):
        partial = shared((WARPS * TILE * tiles * ROWS,))
        rows, rows_of = _input_rows(given) if staged else ("AsGiven{}", {})
        of, fields, results_of = results(given)
        to = f"Q4Results<{of}>{{{fields}, outputs}}"
        arguments = {
            "const half* x": given.x.data,
            "const unsigned* words": words.data,
            "const half* scales": scales.data,
            "int outputs": outputs,
            "int tokens": tokens,
            "float* partial": partial.data,
        }
        kind = f"{columns}, {zero}, {tiles}, {ACTIVATIONS[product.gate]}"
        call(
            "_".join(re.findall(r"\w+", f"q4_linear {kind} {rows} {to}")),
            {**arguments, **rows_of, **results_of},
            f"q4_linear<{kind}>(x, {rows}, words, scales, {to}, tokens, partial);",
            FILES,
        )


def _input_rows(given: ProductArguments) -> tuple[str, dict[str, Expr]]:
    """A row in shared memory, as ``input_rows.cuh`` makes it, and the arguments for that."""
    columns, norm, of_norm = given.product.weight.columns, given.product.norm, given.norm
    arguments = {"half* staged": shared((columns,), "float16").data}
    if norm is None or of_norm is None:
        return f"Staged<{columns}, {THREADS}>{{staged}}", arguments
    weight, offset = C_TYPES[norm.weight_dtype], int(norm.unit_offset)
    arguments |= {f"const {weight}* norm": of_norm.data, "float eps": f32(norm.eps)}
    made = f"RMSNormed<{columns}, {THREADS}, {offset}, {weight}>{{norm, eps, staged, partial}}"
    return made, arguments
