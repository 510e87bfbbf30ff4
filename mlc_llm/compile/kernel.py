"""The words that the kernels of all devices are written in.

Everything here is called while a `kernel(...)` block is open and emits TIR into it. Devices index
with integers of different types: `device.cpu.kernels.vector` has the words for int64, and
`compile.gpu.kernels.launch` those for int32, and both add what only such a device has. A word that
they share means the same in both, but for that type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import IntImm

# TVM's expressions, buffers and frames overload the operators at run time: no static type says so.
Expr: TypeAlias = Any
Buffer: TypeAlias = Any
Frame: TypeAlias = Any

bind = T.bind


@contextmanager
def kernel(name: str) -> Iterator[IRBuilder]:
    """Open a PrimFunc called `name`; `.get()` on what it yields returns it once the block closed.

    `tirx.noalias` says that buffers do not overlap. It is what lets LLVM keep accumulators in
    registers, here and in every other function of the module. The other attributes tell the passes
    to leave the loops alone.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        yield builder


@contextmanager
def when(condition: Expr) -> Iterator[None]:
    """A block that runs only if `condition` holds. On a GPU it must not write to shared memory."""
    with T.If(condition), T.Then():
        yield


@dataclass(frozen=True)
class IndexType:
    """The integers of a kernel's sizes, loops and indices; called with a value, converts it.

    Args:
        name: TVM's name of the type.
    """

    name: str

    def __call__(self, value: Expr) -> Expr:
        """`value` as an expression of this type."""
        return IntImm(self.name, value) if isinstance(value, int) else T.Cast(self.name, value)

    def variable(self) -> Expr:
        """A new variable of this type."""
        return getattr(T, self.name)()

    def size(self, known: int | None = None) -> Expr:
        """A dimension: the constant when it is known, else a new variable."""
        return self.variable() if known is None else self(known)

    def argument(
        self, name: str, shape: Sequence[Expr], dtype: str = "float32", view: bool = False
    ) -> Buffer:
        """A tensor argument. `view` admits a tensor that starts inside its storage."""
        handle = T.arg(name, T.handle())
        offset = self.variable() if view else None
        return T.match_buffer(handle, tuple(shape), dtype, elem_offset=offset)

    def serial(self, extent: Expr) -> Frame:
        """A loop over 0 .. extent - 1."""
        return T.serial(self(0), self(extent) if isinstance(extent, int) else extent)

    def ceil_div(self, a: Expr, b: int) -> Expr:
        """a / b rounded up, for a >= 0."""
        return T.truncdiv(a + self(b - 1), self(b))


i32 = IndexType("int32")
