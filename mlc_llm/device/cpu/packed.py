"""Weights in the layouts that the CPU's kernels read, and the kernels that read them.

A weight lies in blocks of 16 rows. Where the rows are the vocabulary, whose size a library does not
know, the number of blocks is symbolic and outputs are padded to whole blocks.
"""

from __future__ import annotations

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from mlc_llm.device.cpu.kernels.blocks import ROWS
from mlc_llm.device.cpu.kernels.embedding import float_embedding, q4_embedding
from mlc_llm.device.cpu.kernels.float_linear import float_blocks, float_linear, repack_float
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.q4_linear import q4_blocks, q4_groups, q4_linear, repack_q4
from mlc_llm.plugin import Repack

VOCABULARY_BLOCKS = "vocab_blocks"
ACTIVATION = "float32"


def call(
    kernel: tirx.PrimFunc, name: str, args: list[nn.Tensor], shape: tuple[object, ...], dtype: str
) -> nn.Tensor:
    """Emit a call of a kernel with one output of the given shape and dtype."""
    private = kernel.without_attr("global_symbol")
    return op.tensor_ir_op(private, name, args, nn.Tensor.placeholder(list(shape), dtype))


def single(x: nn.Tensor) -> int | None:
    """1 when ``x`` is known to hold one token, for which there are kernels of their own."""
    return 1 if isinstance(x.shape[0], int) and x.shape[0] == 1 else None


class PackedQ4(nn.Module):
    """A 4-bit weight (rows, columns) as ``q4_linear.py`` lays it out.

    Args:
        rows: rows of the weight, or None for the vocabulary.
        columns: columns of the weight.
        scale_dtype: dtype of the scales.
        isa: what the CPU offers.
        activations: how the kernels round activations.
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
        kernel = q4_linear(
            self.rows,
            self.columns,
            single(x),
            self.scale_dtype,
            x.dtype,
            out_dtype,
            self.isa,
            self._rounding(x),
        )
        width = self.codes.shape[0] * ROWS if self.rows is None else self.rows
        args = [x, self.codes, self.scales]
        return call(kernel, "q4_linear", args, (x.shape[0], width), out_dtype)

    def _rounding(self, x: nn.Tensor) -> str:
        """How activations are rounded; a single token waits for the weights anyway."""
        if self.activations == "mixed":
            return "a16" if single(x) else "a8"
        return self.activations

    def embedding(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = q4_embedding(self.columns, self.scale_dtype, ACTIVATION)
        shape = (ids.shape[0], self.columns)
        return call(kernel, "q4_embedding", [ids, self.codes, self.scales], shape, ACTIVATION)


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
        kernel = float_linear(
            self.rows, self.columns, single(x), self.dtype, x.dtype, out_dtype, self.isa
        )
        width = self.values.shape[0] * ROWS if self.rows is None else self.rows
        return call(kernel, "float_linear", [x, self.values], (x.shape[0], width), out_dtype)

    def embedding(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = float_embedding(self.columns, self.dtype, ACTIVATION)
        shape = (ids.shape[0], self.columns)
        return call(kernel, "float_embedding", [ids, self.values], shape, ACTIVATION)
