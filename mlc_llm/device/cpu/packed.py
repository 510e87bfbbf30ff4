"""Weights in the layouts that the CPU's kernels read, and the kernels that read them.

A weight lies in blocks of 16 rows. Where the rows are the vocabulary, whose size a library does not
know, the number of blocks is symbolic and outputs are padded to whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.relax.frontend import nn

from mlc_llm.compile.kernel_call import call_kernel
from mlc_llm.device.cpu.deferred import LinearInput, Product
from mlc_llm.device.cpu.kernels.blocks import ROWS
from mlc_llm.device.cpu.kernels.embedding import float_embedding, q4_embedding
from mlc_llm.device.cpu.kernels.float_linear import float_blocks, float_linear, repack_float
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.q4_linear import q4_blocks, q4_groups, q4_linear, repack_q4
from mlc_llm.plugin import Repack

VOCABULARY_BLOCKS = "vocab_blocks"
ACTIVATION = "float32"


def single(tokens: object) -> int | None:
    """1 for a single token, for which there are kernels of their own, else None."""
    return 1 if isinstance(tokens, int) and tokens == 1 else None


def _product(
    name: str,
    kernel: Callable[[LinearInput, bool], tirx.PrimFunc],
    x: nn.Tensor,
    weight: Sequence[nn.Tensor],
    width: object,
    dtype: str,
) -> Product:
    """A linear layer's result, which a kernel computes when it is known whether it is added to.

    Args:
        name: what the kernel is called.
        kernel: gives it, for what is multiplied and whether there is a residual.
        x: what is multiplied.
        weight: the packed weight.
        width: columns of the result.
        dtype: of the result.
    """
    source = LinearInput.of(x)
    shape = (source.tokens, width)

    def compute(residual: nn.Tensor | None) -> nn.Tensor:
        added = [] if residual is None else [residual]
        args = [*source.arguments, *weight, *added]
        return call_kernel(kernel(source, bool(added)), name, args, shape, dtype)

    return Product(shape, dtype, compute)


class PackedQ4(nn.Module):
    """A 4-bit weight (rows, columns) as ``q4_linear.py`` lays it out.

    Args:
        rows: rows of the weight, or None for the vocabulary.
        columns: columns of the weight.
        scale_dtype: dtype of the scales.
        isa: what the CPU offers.
        activations: how the kernels round activations: "a8" or "a16".
    """

    def __init__(
        self, rows: int | None, columns: int, scale_dtype: str, isa: Isa, activations: str
    ) -> None:
        self.rows, self.columns, self.scale_dtype = rows, columns, scale_dtype
        self.isa, self.activations = isa, activations
        blocks = VOCABULARY_BLOCKS if rows is None else q4_blocks(rows)
        self.codes = nn.Parameter((blocks, q4_groups(columns), 4, 4 * ROWS), "uint8")
        self.scales = nn.Parameter((blocks, q4_groups(columns), ROWS), scale_dtype)

    def repack(self, name: str, weight: str) -> Repack:
        """How the parameters of ``name``.``weight`` are made from those stored under ``name``."""
        return Repack(
            (f"{name}.q_weight", f"{name}.q_scale"),
            (f"{name}.{weight}.codes", f"{name}.{weight}.scales"),
            repack_q4(self.rows, self.columns, self.scale_dtype),
        )

    def linear(self, x: nn.Tensor, out_dtype: str) -> nn.Tensor:
        """x @ weight.T; what is deferred of x is computed by the same kernel."""

        def kernel(source: LinearInput, residual: bool) -> tirx.PrimFunc:
            return q4_linear(
                self.rows,
                self.columns,
                single(source.tokens),
                self.scale_dtype,
                source.dtype,
                out_dtype,
                self.isa,
                self.activations,
                source.rows,
                residual,
            )

        width = self.codes.shape[0] * ROWS if self.rows is None else self.rows
        return _product("q4_linear", kernel, x, [self.codes, self.scales], width, out_dtype)

    def embedding(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = q4_embedding(self.columns, self.scale_dtype, ACTIVATION)
        shape = (ids.shape[0], self.columns)
        return call_kernel(
            kernel, "q4_embedding", [ids, self.codes, self.scales], shape, ACTIVATION
        )


class PackedFloat(nn.Module):
    """A float weight (rows, columns) as ``float_linear.py`` lays it out."""

    def __init__(self, rows: int | None, columns: int, dtype: str, isa: Isa) -> None:
        self.rows, self.columns, self.dtype, self.isa = rows, columns, dtype, isa
        blocks = VOCABULARY_BLOCKS if rows is None else float_blocks(rows)
        self.values = nn.Parameter((blocks, columns, ROWS), dtype)

    def repack(self, name: str, weight: str) -> Repack:
        """How the parameter of ``name``.``weight`` is made from the one stored under ``name``."""
        kernel = repack_float(self.rows, self.columns, self.dtype)
        return Repack((f"{name}.weight",), (f"{name}.{weight}.values",), kernel)

    def linear(self, x: nn.Tensor, out_dtype: str) -> nn.Tensor:
        """x @ weight.T; what is deferred of x is computed by the same kernel."""

        def kernel(source: LinearInput, residual: bool) -> tirx.PrimFunc:
            return float_linear(
                self.rows,
                self.columns,
                single(source.tokens),
                self.dtype,
                source.dtype,
                out_dtype,
                self.isa,
                source.rows,
                residual,
            )

        width = self.values.shape[0] * ROWS if self.rows is None else self.rows
        return _product("float_linear", kernel, x, [self.values], width, out_dtype)

    def embedding(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = float_embedding(self.columns, self.dtype, ACTIVATION)
        shape = (ids.shape[0], self.columns)
        return call_kernel(kernel, "float_embedding", [ids, self.values], shape, ACTIVATION)
