"""Rows of a stored table, which a tied output projection shares.

out[m] = row ids[m] of the table. Exact up to the rounding of a weight's float32 value (see
`weight.py`) to the output's dtype.
"""

from __future__ import annotations

from functools import cache

from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities

from .launch import argument, bind, ceil_div, i32, kernel, launch, size, when, write
from .weight import KernelWeight


@cache
def embedding(table: KernelWeight, dtype: str, capabilities: GPUCapabilities) -> PrimFunc:
    """Arguments of the kernel: ids (m,) int32, the table's tensors, out (m, columns) `dtype`.

    Args:
        table: how the table is stored.
        dtype: dtype of what is looked up.
        capabilities: what the GPU can do.
    """
    threads = capabilities.light
    with kernel("embedding") as built:
        tokens, rows = size(), size()
        ids = argument("ids", (tokens,), "int32")
        tensors = table.arguments(rows)
        out = argument("out", (tokens, table.columns), dtype)
        grid = [ceil_div(size(table.units), threads), tokens]
        with launch(grid, threads) as ((part, token), thread):
            unit = bind(part * i32(threads) + thread)
            with when(unit < i32(table.units)):
                for i, value in enumerate(tensors.read(ids[token], unit).weights()):
                    column = unit * i32(table.unit) + i32(i)
                    if table.ragged:
                        with when(column < i32(table.columns)):
                            write(out, (token, column), value)
                    else:
                        write(out, (token, column), value)
    return built.get()
