"""Weights in the layouts that the CPU's kernels read, and the kernels that read them.

A weight lies in blocks of 16 rows. Where the rows are the vocabulary, whose size a library does not
know, the number of blocks is symbolic and outputs are padded to whole blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from mlc_llm.compile.kernel_call import call_kernel
from mlc_llm.device.cpu.deferred import LinearInput
from mlc_llm.device.cpu.kernels.blocks import BLOCK_ROWS, packed_blocks
from mlc_llm.device.cpu.kernels.embedding import float_embedding, group_embedding
from mlc_llm.device.cpu.kernels.float_linear import float_linear, repack_float
from mlc_llm.device.cpu.kernels.group_layout import Part, packed_shapes
from mlc_llm.device.cpu.kernels.group_linear import group_linear
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.repack import repack
from mlc_llm.model.module import Module, Parameter
from mlc_llm.model.stored import StoredWeight
from mlc_llm.plugin import Repack, Scheme
from mlc_llm.plugin.scheme import StoredTensor

ACTIVATION = "float32"


def single(tokens: object) -> int | None:
    """1 for a single token, for which there are kernels of their own, else None."""
    return 1 if isinstance(tokens, int) and tokens == 1 else None


class Packed(Module, ABC):
    """A packed weight (rows, columns).

    Attributes:
        rows: rows of the weight, or None for the vocabulary.
        columns: columns of the weight.
        tensors: the packed tensors.
        product: what the kernel that multiplies is called.
    """

    rows: int | None
    columns: int
    tensors: list[Any]
    product: str

    @abstractmethod
    def steps(self, stored: Sequence[Sequence[StoredTensor]], name: str) -> list[Repack]:
        """How the packed tensors are made.

        Args:
            stored: the tensors of the model folder, by part.
            name: the name of this module in the lowered model.
        """

    def linear(
        self,
        x: nn.Tensor,
        bias: nn.Tensor | None,
        out_dtype: str,
        residual: nn.Tensor | None = None,
    ) -> nn.Tensor:
        """x @ weight.T + bias + residual of (tokens, columns), in one kernel.

        What is deferred of x is computed, too. The residual has the result's shape and dtype.
        """
        source = LinearInput.of(x)
        # `mlc_llm bench --profile` cannot tell by the shapes that x is twice as wide.
        name = self.product if source.rows.width(1) == 1 else f"gated_{self.product}"
        width = self.tensors[0].shape[0] * BLOCK_ROWS if self.rows is None else self.rows
        kernel = self._kernel(source, bias, out_dtype, residual is not None)
        added = [tensor for tensor in (bias, residual) if tensor is not None]
        args = [*source.arguments, *self.tensors, *added]
        return call_kernel(kernel, name, args, (source.tokens, width), out_dtype)

    @abstractmethod
    def embedding(self, ids: nn.Tensor) -> nn.Tensor:
        """The rows that ``ids`` (tokens,) names."""

    def _names(self, name: str) -> list[str]:
        return [f"{name}.tensors.{index}" for index in range(len(self.tensors))]

    @abstractmethod
    def _kernel(
        self, source: LinearInput, bias: nn.Tensor | None, out_dtype: str, residual: bool
    ) -> tirx.PrimFunc:
        """The kernel that multiplies."""


class PackedGroups(Packed):
    """Codes in groups, as ``group_linear.py`` lays them out.

    Args:
        parts: rows and scheme of each part.
        columns: columns of the weight.
        isa: what the CPU offers.
        activations: how the kernels round activations: "a8" or "a16".
    """

    product = "group_linear"

    def __init__(self, parts: Sequence[Part], columns: int, isa: Isa, activations: str) -> None:
        self.parts, self.columns = tuple(parts), columns
        self.rows = _total([part.rows for part in parts])
        self.isa, self.activations = isa, activations
        self.tensors = [Parameter(*kind) for part in parts for kind in packed_shapes(part, columns)]

    def steps(self, stored: Sequence[Sequence[StoredTensor]], name: str) -> list[Repack]:
        steps, made = [], self._names(name)
        for part, given in zip(self.parts, stored, strict=True):
            count = len(packed_shapes(part, self.columns))
            names = tuple(tensor.name for tensor in given)
            steps.append(Repack(names, tuple(made[:count]), repack(part, self.columns)))
            made = made[count:]
        return steps

    def _kernel(
        self, source: LinearInput, bias: nn.Tensor | None, out_dtype: str, residual: bool
    ) -> tirx.PrimFunc:
        return group_linear(
            self.parts,
            self.columns,
            single(source.tokens),
            source.dtype,
            out_dtype,
            self.isa,
            self.activations,
            source.rows,
            residual,
            None if bias is None else bias.dtype,
        )

    def embedding(self, ids: nn.Tensor) -> nn.Tensor:
        [part] = self.parts
        kernel = group_embedding(part.scheme, self.columns, ACTIVATION)
        shape = (ids.shape[0], self.columns)
        return call_kernel(kernel, "group_embedding", [ids, *self.tensors], shape, ACTIVATION)


class PackedFloat(Packed):
    """Floats, as ``float_linear.py`` lays them out.

    Args:
        rows: rows of the weight, or None for the vocabulary.
        columns: columns of the weight.
        dtype: its dtype.
        isa: what the CPU offers.
    """

    product = "float_linear"

    def __init__(self, rows: int | None, columns: int, dtype: str, isa: Isa) -> None:
        self.rows, self.columns, self.dtype, self.isa = rows, columns, dtype, isa
        self.tensors = [Parameter((packed_blocks(rows), columns, BLOCK_ROWS), dtype)]

    def steps(self, stored: Sequence[Sequence[StoredTensor]], name: str) -> list[Repack]:
        kernel = repack_float(self.rows, self.columns, self.dtype)
        [[given]] = stored
        return [Repack((given.name,), tuple(self._names(name)), kernel)]

    def _kernel(
        self, source: LinearInput, bias: nn.Tensor | None, out_dtype: str, residual: bool
    ) -> tirx.PrimFunc:
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
            None if bias is None else bias.dtype,
        )

    def embedding(self, ids: nn.Tensor) -> nn.Tensor:
        kernel = float_embedding(self.columns, self.dtype, ACTIVATION)
        shape = (ids.shape[0], self.columns)
        return call_kernel(kernel, "float_embedding", [ids, *self.tensors], shape, ACTIVATION)


class PackedPieces(Module):
    """A weight of which some parts are floats and others codes: one kernel for each run of them.

    Args:
        pieces: the runs, in their order.
    """

    def __init__(self, pieces: Sequence[Packed]) -> None:
        self.pieces = list(pieces)
        self.columns = pieces[0].columns

    def linear(
        self,
        x: nn.Tensor,
        bias: nn.Tensor | None,
        out_dtype: str,
        residual: nn.Tensor | None = None,
    ) -> nn.Tensor:
        """x @ weight.T + bias + residual; the outputs of the kernels are joined, then added to."""
        y = op.concat([piece.linear(x, None, out_dtype) for piece in self.pieces], dim=1)
        y = y if bias is None else y + op.astype(bias, out_dtype)
        return y if residual is None else residual + y


def joined(weights: Sequence[Packed | PackedPieces]) -> PackedGroups | None:
    """The rows of several weights as one weight; None where no kernel multiplies all of them."""
    groups = [weight for weight in weights if isinstance(weight, PackedGroups)]
    if len(groups) < len(weights) or any(weight.rows is None for weight in groups):
        return None
    parts = [part for weight in groups for part in weight.parts]
    made = PackedGroups(parts, groups[0].columns, groups[0].isa, groups[0].activations)
    made.tensors = [tensor for weight in groups for tensor in weight.tensors]
    return made


def pack(
    stored: StoredWeight, name: str, isa: Isa, activations: str
) -> tuple[Packed | PackedPieces, list[Repack]]:
    """The packed form of a weight, and how it is made.

    Args:
        stored: how the weight is stored.
        name: the name of the packed weight in the lowered model.
        isa: what the CPU offers.
        activations: how kernels round activations: "a8" or "a16".
    """
    pieces: list[tuple[Packed, list[list[StoredTensor]]]] = []
    named = zip(stored.parts, stored.part_tensors, strict=True)
    for is_float, run in groupby(named, lambda part: part[0][1].is_float):
        described, tensors = zip(*run, strict=True)
        parts = [(rows if isinstance(rows, int) else None, scheme) for rows, scheme in described]
        if is_float:
            pieces += [
                (PackedFloat(rows, stored.columns, scheme.dtype, isa), [own])
                for (rows, scheme), own in zip(parts, tensors, strict=True)
            ]
        else:
            pieces.append((_groups(parts, stored.columns, isa, activations), list(tensors)))
    if len(pieces) == 1:
        [(piece, given)] = pieces
        return piece, piece.steps(given, name)
    steps = []
    for index, (piece, given) in enumerate(pieces):
        steps += piece.steps(given, f"{name}.pieces.{index}")
    return PackedPieces([piece for piece, _ in pieces]), steps


def _groups(
    parts: Sequence[tuple[int | None, Scheme]], columns: int, isa: Isa, activations: str
) -> PackedGroups:
    return PackedGroups([Part(*part) for part in parts], columns, isa, activations)


def _total(rows: Sequence[int | None]) -> int | None:
    """The sum, or None where one is not known."""
    known = [count for count in rows if count is not None]
    return sum(known) if len(known) == len(rows) else None
