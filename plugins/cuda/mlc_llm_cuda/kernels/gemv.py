"""Products of one token with weights by rows, in float16 or in codes: see ``gemv.cuh``.

No weight is rounded: the bounds of :mod:`mlc_llm.compile.gpu.kernels.linear` hold.

Computed from NVIDIA's machine code for 9.0, and not measured: an instruction of a warp is good for
24 bytes of weights in float16, 7 in codes of 8 bits, 3.2 in those of 4 with minimums, 2.4 in those
of 3. An H100 needs 3.6 to read as fast as its memory gives.
"""

from __future__ import annotations

import re
from functools import cache

from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels import linear as shared_linear
from mlc_llm.compile.gpu.kernels.launch import ceil_div, i32, kernel, launch, size
from mlc_llm.compile.gpu.kernels.linear import Product, ProductArguments
from mlc_llm_cuda.kernels import matmul
from mlc_llm_cuda.kernels.results import ACTIVATIONS, results
from mlc_llm_cuda.kernels.text import call

FILES = (*matmul.FILES[:-1], "gemv.cuh")
WARPS, ROWS = 4, 4
"""``kGemvWarps`` and ``kGemvRows``."""


def is_covered(product: Product, capabilities: GPUCapabilities) -> bool:
    """Whether there is a kernel for a product."""
    return product.weight.scheme.layout == "rows" and matmul.is_covered(product, capabilities)


@cache
def gemv(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.kernels.linear.gemv`."""
    if not is_covered(product, capabilities):
        return shared_linear.gemv(product, capabilities)
    with kernel("gemv") as built:
        n = size(product.outputs)
        given = ProductArguments.declare(product, i32(1), n)
        weight, tensors = matmul.stored_weight(given)
        of, added, results_of = results(given)
        with launch([ceil_div(n, WARPS * ROWS // product.parts)], WARPS * 32):
            body = (
                f"gemv<{ACTIVATIONS[product.gate]}>(x, {weight}, "
                f"Results<{of}, 0>{{{added}, outputs}});"
            )
            arguments = {"const half* x": given.x.data, "int outputs": n, **tensors, **results_of}
            call("_".join(re.findall(r"\w+", body)), arguments, body, FILES)
    return built.get()
