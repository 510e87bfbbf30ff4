"""What the linear kernels share: outputs in blocks of 16 rows, inputs padded to whole groups."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.script.ir_builder import tirx as T

from .vector import Buffer, Expr, bind, f32, i64, load_f32, scratch, serial, store_f32, when

ROWS = 16  # rows of the weight in a packed block: outputs computed together
GROUP = 32  # weights of a row that share a scale in 4 bits


def block_count(n: int) -> int:
    """Blocks of the packed layout of n rows: an even number, as kernels take two at a time."""
    return 2 * -(-n // (2 * ROWS))


def group_count(k: int) -> int:
    """Groups of a row of k weights."""
    return -(-k // GROUP)


def store_block(y: Buffer, m: Expr, block: Expr, values: Sequence[Expr], n: int | None) -> None:
    """Write y[m, 16 * block : 16 * block + 16], but nothing past column n."""
    lanes = ROWS // len(values)
    column = bind(block * ROWS)

    def whole() -> None:
        for v, value in enumerate(values):
            store_f32(y, (m, column + v * lanes), value, lanes)

    if n is None or n % (2 * ROWS) == 0:
        whole()
        return
    with when(column + ROWS <= n):
        whole()
    with when(column + ROWS > n):
        edge = scratch((ROWS,))
        for v, value in enumerate(values):
            store_f32(edge, (i64(v * lanes),), value, lanes)
        with serial(T.max(n - column, i64(0))) as i:
            T.buffer_store(y, T.Cast(y.dtype, edge[i]), [m, column + i])


def copy_row(x: Buffer, row: Expr, k: int, out: Buffer, out_row: Expr, lanes: int) -> None:
    """out[out_row, :] = x[row, :] as float32, and 0 from k to the width of `out`."""
    width = int(out.shape[1])
    with serial(k // lanes) as j:
        store_f32(out, (out_row, j * lanes), load_f32(x, (row, j * lanes), lanes), lanes)
    for j in range(k - k % lanes, k):
        T.buffer_store(out, T.Cast("float32", x[row, i64(j)]), [out_row, i64(j)])
    for j in range(k, width):
        T.buffer_store(out, f32(0), [out_row, i64(j)])
