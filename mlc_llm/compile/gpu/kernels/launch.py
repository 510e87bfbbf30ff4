"""The vocabulary that the GPU kernels are written in: launches, memories, loops, reductions.

Everything here is called while a `kernel(...)` block is open and emits TIR into it. One `kernel` is
one launch: a grid of workgroups of threads. Sizes and indices are int32, because shading languages
have no int64 everywhere; a tensor has fewer than 2^31 elements. A value that is used twice must be
bound (`bind`), else its whole expression is emitted twice.

Three memories: tensors, which all threads see; `shared`, which the threads of a workgroup see,
after a `barrier`; `registers`, which are a thread's own.

`compile/kernel.py` has the words that CPUs have too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from tvm.script.ir_builder import tirx as T

from mlc_llm.compile.kernel import Buffer, Expr, Frame, bind, i32
from mlc_llm.compile.kernel import kernel as kernel  # words of this vocabulary, too
from mlc_llm.compile.kernel import when as when

size, argument, serial, ceil_div = i32.size, i32.argument, i32.serial, i32.ceil_div


def f32(value: Expr) -> Expr:
    """`value` as a float32 expression.

    Constants are exact. TVM's generator for WGSL prints seven digits, which many numbers exceed;
    those are given by their bits.
    """
    if not isinstance(value, int | float):
        return T.Cast("float32", value)
    constant = np.float32(value)
    if np.float32(f"{constant:.6e}") == constant:
        return T.float32(float(constant))
    return T.reinterpret("float32", T.uint32(int(constant.view(np.uint32))))


@contextmanager
def launch(blocks: Sequence[Expr], threads: int) -> Iterator[tuple[list[Expr], Expr]]:
    """The grid: yields the workgroup's indices, in the order of `blocks`, and the thread's."""
    with T.launch_thread("blockIdx.x", blocks[0]) as first:
        if len(blocks) == 1:
            with T.launch_thread("threadIdx.x", i32(threads)) as thread:
                yield [first], thread
        else:
            with (
                T.launch_thread("blockIdx.y", blocks[1]) as second,
                T.launch_thread("threadIdx.x", i32(threads)) as thread,
            ):
                yield [first, second], thread


def shared(shape: Sequence[int], dtype: str = "float32") -> Buffer:
    """Memory of the workgroup."""
    return T.alloc_buffer(tuple(i32(s) for s in shape), dtype, scope="shared")


def registers(shape: Sequence[int], dtype: str = "float32") -> Buffer:
    """Memory of the thread."""
    return T.alloc_buffer(tuple(i32(s) for s in shape), dtype, scope="local")


def barrier() -> None:
    """All threads of the workgroup come here, and see what was written before."""
    T.evaluate(T.tvm_storage_sync("shared"))


def write(buffer: Buffer, index: Sequence[Expr], value: Expr) -> None:
    """Write a value, converted to the buffer's dtype. (The CPU's `store` does not convert.)"""
    if str(value.ty) != str(buffer.dtype):
        value = T.Cast(buffer.dtype, value)
    T.buffer_store(buffer, value, list(index))


def load_f32(buffer: Buffer, index: Sequence[Expr]) -> Expr:
    """An element as float32."""
    value = buffer[tuple(index)]
    return value if str(buffer.dtype) == "float32" else T.Cast("float32", value)


def fill(buffer: Buffer, value: float) -> None:
    """Set all elements of a thread's own vector."""
    with unrolled(int(buffer.shape[0])) as i:
        write(buffer, (i,), f32(value))


def unrolled(extent: int) -> Frame:
    """A loop over 0 .. extent - 1 that is written out: registers are indexed by constants."""
    return T.unroll(i32(0), i32(extent))


@contextmanager
def strided(begin: Expr, end: Expr, step: int) -> Iterator[Expr]:
    """A loop over begin, begin + step, ... below `end`: a thread's share of a range."""
    with T.serial(i32(0), ceil_div(T.max(end - begin, i32(0)), step)) as turn:
        yield bind(begin + turn * i32(step))


def reduce(values: Buffer, scratch: Buffer, thread: Expr, combine: Callable[..., Expr]) -> None:
    """Combine each register over all threads; afterwards every thread has the results.

    A barrier must stand between this and the next write to the scratch memory.

    In rounds, in each of which a thread takes the values of three others (at last perhaps of one).
    All threads do the same: TVM puts its own barriers between writes and reads under a condition,
    and refuses to.

    Args:
        values: registers (n,).
        scratch: shared memory (n, threads), threads a power of two.
        thread: the thread's index.
        combine: of two values.
    """
    count, threads = (int(s) for s in scratch.shape)
    rows = [i32(i) for i in range(count)]
    stride = 1
    while stride < threads:
        if stride > 1:
            barrier()
        ways = min(4, threads // stride)
        for i in rows:
            write(scratch, (i, thread), values[i])
        barrier()
        for i in rows:
            others = [scratch[i, T.bitwise_xor(thread, i32(w * stride))] for w in range(1, ways)]
            write(values, (i,), functools.reduce(combine, others, values[i]))
        stride *= ways
