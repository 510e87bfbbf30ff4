"""How a weight (rows, columns) is stored, as the matmuls and the embedding read it.

What is stored is described by `mlc_llm.plugin.scheme.Scheme`. It is read in units of consecutive
weights of one row: a float, or the codes of a word of `q_weight`. Neighbouring threads take
neighbouring units, which in the layout `rows` lie in neighbouring memory; in the layout `columns`
they lie as far apart as the weight has rows.

A unit is read as float32: `code - zero` or `code` is exact, and a weight is then
`value * factor + offset`, rounded as float32 rounds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.gpu.schemes import has_scheme
from mlc_llm.errors import CompileError
from mlc_llm.plugin.scheme import Scheme, stored_tensors

from .launch import Buffer, Expr, argument, bind, f32, i32, load_f32


@dataclass(frozen=True)
class KernelWeight(ABC):
    """How a weight is stored, and how a kernel reads it.

    Args:
        columns: weights of a row.
        scheme: how they are stored.
    """

    columns: int
    scheme: Scheme

    @property
    @abstractmethod
    def unit(self) -> int:
        """Weights that are read at once."""

    @property
    def units(self) -> int:
        """Units of a row, the last one perhaps ragged."""
        return -(-self.columns // self.unit)

    @property
    def ragged(self) -> bool:
        """Whether the last unit of a row reaches beyond its end, where weights mean nothing."""
        return self.columns % self.unit != 0

    @abstractmethod
    def arguments(self, rows: Expr) -> WeightTensors:
        """Declare the kernel's arguments that hold a weight of some rows."""


@dataclass(frozen=True)
class Unit:
    """The weights of a unit: `value * factor + offset`, for each of the values.

    Args:
        values: float32 expressions.
        factor: what they share; None for 1.
        offset: what is added; None for 0.
    """

    values: list[Expr]
    factor: Expr | None = None
    offset: Expr | None = None

    def weights(self) -> list[Expr]:
        """The weights themselves."""
        return [self._weight(value) for value in self.values]

    def dot(self, inputs: list[Expr], total: Expr | None) -> Expr:
        """The sum of the products with as many inputs.

        Args:
            inputs: float32 values.
            total: their sum; None where the weights have no offset.
        """
        products = self.values[0] * inputs[0]
        for value, x in zip(self.values[1:], inputs[1:], strict=True):
            products = products + value * x
        products = products if self.factor is None else products * self.factor
        return products if self.offset is None else products + self.offset * total

    def _weight(self, value: Expr) -> Expr:
        scaled = value if self.factor is None else value * self.factor
        return scaled if self.offset is None else scaled + self.offset


class WeightTensors(ABC):
    """A stored weight's tensors inside a kernel."""

    @abstractmethod
    def tensors(self) -> list[Buffer]:
        """The tensors, in the order of the kernel's arguments."""

    @abstractmethod
    def read(self, row: Expr, unit: Expr) -> Unit:
        """The weights of a unit."""


def weight_of(scheme: Scheme, columns: int) -> KernelWeight:
    """A weight that is stored in a scheme.

    Raises:
        CompileError: there are no kernels for it.
    """
    if not has_scheme(scheme):
        raise CompileError(
            f"GPUs have no kernels for weights stored in {scheme}.", code="quantization-unsupported"
        )
    return FloatWeight(columns, scheme) if scheme.is_float else CodedWeight(columns, scheme)


@dataclass(frozen=True)
class FloatWeight(KernelWeight):
    """Weights as they are; a unit is one weight."""

    @property
    def unit(self) -> int:
        return 1

    def arguments(self, rows: Expr) -> WeightTensors:
        return _FloatTensors(argument("weight", (rows, self.columns), self.scheme.dtype))


@dataclass(frozen=True)
class CodedWeight(KernelWeight):
    """Codes in words, with a scale and perhaps a minimum for each group; a unit is a word."""

    @property
    def unit(self) -> int:
        return self.scheme.codes_per_word

    def arguments(self, rows: Expr) -> WeightTensors:
        scheme = self.scheme
        buffers = {}
        for tensor in stored_tensors("x.weight", (("rows", scheme),), self.columns):
            shape = tuple(rows if size == "rows" else size for size in tensor.shape)
            name = tensor.name.removeprefix("x.")
            buffers[name] = argument(name, shape, tensor.dtype)
        return _CodedTensors(scheme, **buffers)


@dataclass(frozen=True)
class _FloatTensors(WeightTensors):
    weight: Buffer

    def tensors(self) -> list[Buffer]:
        return [self.weight]

    def read(self, row: Expr, unit: Expr) -> Unit:
        return Unit([load_f32(self.weight, (row, unit))])


@dataclass(frozen=True)
class _CodedTensors(WeightTensors):
    """The tensors that a scheme does not have are None."""

    scheme: Scheme
    q_weight: Buffer
    q_scale: Buffer
    q_min: Buffer | None = None
    q_high: Buffer | None = None

    def tensors(self) -> list[Buffer]:
        present = (self.q_weight, self.q_high, self.q_scale, self.q_min)
        return [tensor for tensor in present if tensor is not None]

    def read(self, row: Expr, unit: Expr) -> Unit:
        words_of_group = self.scheme.group // self.scheme.codes_per_word
        codes = self._codes(row, unit)
        group = self._at(row, T.truncdiv(unit, i32(words_of_group)))
        scale = bind(load_f32(self.q_scale, group))
        if self.scheme.zero is None:
            return Unit(codes, scale, bind(load_f32(self.q_min, group)))
        return Unit([code - f32(self.scheme.zero) for code in codes], scale)

    def _at(self, row: Expr, place: Expr) -> tuple[Expr, Expr]:
        """Where in a tensor the word or group of a row is."""
        return (row, place) if self.scheme.layout == "rows" else (place, row)

    def _codes(self, row: Expr, unit: Expr) -> list[Expr]:
        """The codes of a unit as float32."""
        count, low = self.scheme.codes_per_word, self.scheme.planes[0]
        word = bind(self.q_weight[self._at(row, unit)])
        codes = [_bits(word, low * index, low) for index in range(count)]
        if self.q_high is not None:
            high = self.scheme.planes[1]
            units = i32(32 // (high * count))  # whose upper bits are in one word
            word = self.q_high[self._at(row, T.truncdiv(unit, units))]
            first = T.Cast("uint32", T.truncmod(unit, units) * i32(high * count))
            word = bind(T.shift_right(word, first))
            upper = [_bits(word, high * index, high) for index in range(count)]
            codes = [
                code | T.shift_left(bits, T.uint32(low))
                for code, bits in zip(codes, upper, strict=True)
            ]
        return [T.Cast("float32", code) for code in codes]


def _bits(word: Expr, first: int, count: int) -> Expr:
    """Some bits of a word, as an integer."""
    return T.shift_right(word, T.uint32(first)) & T.uint32((1 << count) - 1)
