"""Token embeddings from a stored table, which a tied output projection shares.

out[m] = row ids[m] of the table. Exact up to the rounding to the output's dtype.
"""

from __future__ import annotations

from functools import cache

from tvm.tirx import PrimFunc

from .launch import argument, bind, ceil_div, i32, kernel, launch, size, store, when
from .weight import Weight


@cache
def embedding(table: Weight, dtype: str, threads: int) -> PrimFunc:
    """Arguments of the kernel: ids (m,) int32, the table's tensors, out (m, columns) `dtype`."""
    with kernel("embedding") as built:
        tokens, rows = size(), size()
        ids = argument("ids", (tokens,), "int32")
        tensors = table.arguments(rows)
        out = argument("out", (tokens, table.columns), dtype)
        grid = [ceil_div(size(table.units), threads), tokens]
        with launch(grid, threads) as ((part, token), thread):
            unit = bind(part * i32(threads) + thread)
            with when(unit < i32(table.units)):
                values, factor = tensors.read(ids[token], unit)
                for i, value in enumerate(values):
                    column = unit * i32(table.unit) + i32(i)
                    scaled = value if factor is None else value * factor
                    if table.ragged:
                        with when(column < i32(table.columns)):
                            store(out, (token, column), scaled)
                    else:
                        store(out, (token, column), scaled)
    return built.get()
