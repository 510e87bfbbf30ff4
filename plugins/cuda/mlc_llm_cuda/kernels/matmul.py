"""Products of many tokens on tensor cores: see ``matmul.cuh``, and of weights ``dequantize.cuh``.

Inputs are float16. A weight in codes is rounded to float16 once, which is off by 2^-11 of it at
most; products, sums and what follows them are float32. So a sum differs from the exact one of the
stored weights by (k + 2) units of roundoff of the sum of |x w| at most, for k columns, as in
:mod:`mlc_llm.compile.gpu.kernels.linear`, and, where weights are in codes, by 2^-11 of it. The
order of a sum is that of the columns, whatever the tile and however many tokens there are.

What is known of its speed is computed from NVIDIA's machine code, and nothing was measured. A step
of the large tile on 4 bits is 226 instructions of a warp (compute capability 9.0; 230 for 8.0), and
149 on halves. Of them 64 are products, each of which keeps a tensor core busy for 4 clocks on 9.0
and 8 on 8.0: in 256 and 512 clocks all instructions can be issued. Shared memory needs about 420
clocks for a block's step, so that it allows 60 % of what tensor cores can do on 9.0, and all of it
on 8.0. (More would need the instructions of 9.0 that take matrices from shared memory.)

A small tile has less work for a GPU to hide its latencies behind. Few tokens by few outputs are few
blocks: 64 by 4096 are 64. Sharing the columns between blocks would help there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels import linear as shared_linear
from mlc_llm.compile.gpu.kernels.launch import Expr, ceil_div, i32, kernel, launch, size
from mlc_llm.compile.gpu.kernels.linear import Product, ProductArguments
from mlc_llm.compile.gpu.kernels.weight import KernelWeight
from mlc_llm_cuda.kernels.results import ACTIVATIONS, results
from mlc_llm_cuda.kernels.text import C_TYPES, call, resident

INSTRUCTION = "m16n8k16"
"""The instruction of tensor cores that kernels here need, as capabilities name it."""

FILES = ("ptx.cuh", "activation.cuh", "results.cuh", "tile.cuh", "dequantize.cuh", "matmul.cuh")
THREADS = 128
"""``kTileThreads``."""

SHARED_MEMORY = 99 << 10
"""Bytes that a block may have on every GPU with the instruction (compute capability 8.6 and 12.0
have the least)."""

ENOUGH_BLOCKS = 96
"""Large tiles that keep a GPU busy: most have 80 to 144 multiprocessors."""

BITS = (3, 4, 5, 6, 8)
"""Bits of a code whose words are whole pieces of 16 bytes in a step of columns."""


@dataclass(frozen=True)
class Tile:
    """What a block multiplies at a time; see ``tile.cuh``."""

    tokens: int
    rows: int
    depth: int
    stages: int

    @staticmethod
    def of(weight: KernelWeight, tokens: int, rows: int, depth: int, stages: int) -> Tile:
        """A tile for a weight: as deep as its codes allow, with stages that there is room for."""
        depth = 80 if weight.scheme.bits == 3 else depth
        for number in range(stages, 1, -1):
            tile = Tile(tokens, rows, depth, number)
            if tile.bytes(weight) <= SHARED_MEMORY:
                return tile
        raise AssertionError("two stages have room")

    @property
    def together(self) -> int:
        """Blocks of a multiprocessor, whose registers hold the sums and a step's factors."""
        return 2 if self.tokens == 128 else 4

    def bytes(self, weight: KernelWeight) -> int:
        """Shared memory of a block: ``sizeof(MatmulMemory)``."""
        scheme, pieces = weight.scheme, self.depth // 8
        pitch = pieces if pieces & (pieces - 1) == 0 else pieces | 1
        x, halves = (16 * rows * pitch for rows in (self.tokens, self.rows))
        if scheme.is_float:
            return self.stages * (x + halves) + 32
        words = sum(self.depth // (32 // bits) for bits in scheme.planes)
        factors = max(self.depth // scheme.group, 1)
        is_even = scheme.groups(weight.columns) % 2 == 0
        factor_words = (factors + 1) // 2 if is_even else factors // 2 + 1
        words += factor_words * (2 if scheme.has_minimum else 1)
        return self.stages * (x + 4 * self.rows * words) + 2 * halves


def tiles(weight: KernelWeight) -> tuple[Tile, Tile]:
    """The small tile, for few blocks or tokens, and the large one."""
    return (
        Tile.of(weight, tokens=64, rows=64, depth=64, stages=4),
        Tile.of(weight, tokens=128, rows=128, depth=32, stages=3),
    )


def is_covered(product: Product, capabilities: GPUCapabilities) -> bool:
    """Whether there is a kernel for a product. Rows must be whole pieces of 16 bytes."""
    weight, scheme = product.weight, product.weight.scheme
    return (
        INSTRUCTION in capabilities.matrix_instructions
        and scheme.dtype == "float16"
        and product.dtype == "float16"
        and weight.columns % 8 == 0
        and product.out_dtype in C_TYPES
        and (product.bias is None or product.bias in C_TYPES)
        and product.gate in ACTIVATIONS
        and product.norm is None
        and (scheme.is_float or _codes_are_covered(product))
    )


def _codes_are_covered(product: Product) -> bool:
    weight, scheme = product.weight, product.weight.scheme
    if scheme.bits not in BITS or scheme.has_two_levels:
        return False
    if scheme.layout == "columns":
        whole = product.outputs is not None and product.outputs % 8 == 0
    else:
        whole = scheme.words(weight.columns) % 4 == 0
    # A step has whole groups, or is part of one; and whole words.
    return whole and all(
        (tile.depth % scheme.group == 0 or scheme.group % tile.depth == 0)
        and all(tile.depth % (32 // bits) == 0 for bits in scheme.planes)
        for tile in tiles(weight)
    )


@cache
def matmul(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.kernels.linear.matmul`."""
    if not is_covered(product, capabilities):
        return shared_linear.matmul(product, capabilities)
    with kernel("matmul") as built:
        m, n = size(), size(product.outputs)
        multiply_many(ProductArguments.declare(product, m, n), m, n)
    return built.get()


def multiply_many(given: ProductArguments, m: Expr, n: Expr) -> None:
    """The launches for m tokens and n outputs: that of the large tile, or of the small one."""
    small, large = tiles(given.product.weight)
    blocks = ceil_div(m, large.tokens) * ceil_div(n, large.rows // given.product.parts)
    with T.If(T.And(m > i32(small.tokens), blocks >= i32(ENOUGH_BLOCKS))):
        with T.Then():
            multiply_tiles(large, given, m, n)
        with T.Else():
            multiply_tiles(small, given, m, n)


def multiply_tiles(tile: Tile, given: ProductArguments, m: Expr, n: Expr) -> None:
    """The launch for m tokens and n outputs, a tile for each block."""
    product = given.product
    weight, tensors = stored_weight(given)
    of, added, results_of = results(given)
    memory_bytes = tile.bytes(product.weight)
    # Blocks that run at the same time are of the same rows of w: these come from memory once.
    grid = [ceil_div(m, tile.tokens), ceil_div(n, tile.rows // product.parts)]
    with launch(grid, THREADS), resident(tile.together):
        memory = T.alloc_buffer((i32(memory_bytes),), "uint8", scope="shared.dyn")
        arguments = {
            "const half* x": given.x.data,
            "int tokens": m,
            "int outputs": n,
            "unsigned char* memory": memory.data,
        }
        aligned = int(product.outputs is not None and product.outputs % 8 == 0)
        sizes = f"{tile.tokens}, {tile.rows}, {tile.depth}, {tile.stages}"
        body = (
            f"matmul<Tile<{sizes}>, {ACTIVATIONS[product.gate]}, {memory_bytes}>("
            f"x, {weight}, Results<{of}, {aligned}>{{{added}, outputs}}, "
            "tokens, memory);"
        )
        name = "_".join(re.findall(r"\w+", body))
        call(name, {**arguments, **tensors, **results_of}, body, FILES)


def stored_weight(given: ProductArguments) -> tuple[str, dict[str, Expr]]:
    """A weight as ``dequantize.cuh`` knows it, and the arguments that have its tensors."""
    weight = given.product.weight
    scheme, columns = weight.scheme, weight.columns
    fields = {"weight": True}
    kind = f"HalfWeight<{columns}>"
    if not scheme.is_float:
        zero = -1 if scheme.zero is None else scheme.zero
        by_columns = int(scheme.layout == "columns")
        kind = f"CodedWeight<{columns}, {scheme.bits}, {scheme.group}, {zero}, {by_columns}>"
        is_split = len(scheme.planes) > 1
        fields = {"words": True, "high": is_split, "scales": True, "minimums": scheme.has_minimum}
    there = [name for name, is_there in fields.items() if is_there]
    arguments = {
        f"const {'unsigned' if tensor.dtype == 'uint32' else 'half'}* {name}": tensor.data
        for name, tensor in zip(there, given.weight.tensors(), strict=True)
    }
    passed = ", ".join(name if name in there else "nullptr" for name in fields)
    return f"{kind}{{{passed}}}", arguments
