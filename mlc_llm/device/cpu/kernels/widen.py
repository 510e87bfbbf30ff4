"""Parameters in float32, for operations that have no kernel of their own. The values are exact."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .vector import Buffer, Expr, argument, kernel, parallel, serial, size


@cache
def widen(shape: tuple[int | None, ...], dtype: str) -> PrimFunc:
    """Arguments of the kernel: x `dtype` and y float32, of that shape; None is any size."""
    with kernel("widen") as built:
        sizes = [size(known) for known in shape]
        x = argument("x", sizes, dtype)
        y = argument("y", sizes, "float32")
        if not shape:
            T.buffer_store(y, T.Cast("float32", x[()]), [])
        else:
            with parallel(sizes[0]) as first:
                _rest(x, y, [first], sizes[1:])
    return built.get()


def _rest(x: Buffer, y: Buffer, index: list[Expr], sizes: Sequence[Expr]) -> None:
    if not sizes:
        T.buffer_store(y, T.Cast("float32", x[tuple(index)]), index)
        return
    with serial(sizes[0]) as i:
        _rest(x, y, [*index, i], sizes[1:])
