"""What the kernels of all devices begin with: a PrimFunc that is scheduled as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


def i32(value: Expr) -> Expr:
    """`value` as an int32 expression."""
    return IntImm("int32", value) if isinstance(value, int) else T.Cast("int32", value)
