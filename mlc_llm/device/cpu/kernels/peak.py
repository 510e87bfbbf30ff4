"""Kernels that measure what a CPU can do: read memory, and multiply and add.

    fill               writes 1 to every element of x (n,) float32
    read_sum           adds up x, a contiguous range for each task
    multiply_add       rounds of float32 multiply-adds on registers alone
    multiply_add_int8  the same with the CPU's dot products of 8-bit integers, where it has them

There are as many tasks as threads. Results go to out (tasks, WIDTH), so that no computation can be
left out. A round is CHAINS sums, which do not wait for each other, of WIDTH elements, in as many
vectors as the CPU needs for them: it is the same number of operations everywhere.

As a program it compiles them for this CPU: ``python -m mlc_llm.device.cpu.kernels.peak LIBRARY``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tvm
from tvm.script.ir_builder import tirx as T
from tvm.target.codegen import llvm_cpu_has_features
from tvm.tirx import PrimFunc

from mlc_llm.compile.compiler import find_compiler
from mlc_llm.compile.kernel_pipeline import compile_kernels
from mlc_llm.device.cpu.features import host_target
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.vector import (
    Accumulator,
    Buffer,
    Expr,
    argument,
    bind,
    i32,
    i64,
    kernel,
    load,
    parallel,
    scratch,
    serial,
    size,
    splat,
    store,
)
from mlc_llm.device.cpu.peaks import CHAINS, WIDTH
from mlc_llm.registry.child import exit_with_parent

_DOTS = (
    ("avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 16),
    ("avxvnni", "llvm.x86.avx512.vpdpbusd.256", 8),
    ("dotprod", "llvm.aarch64.neon.sdot.v4i32.v16i8", 4),
)
"""The feature, the instruction and its 32-bit lanes; the first that the CPU has is the fastest."""


def fill() -> PrimFunc:
    """x (n,) becomes 1, and out (tasks, WIDTH) too; each task writes what it reads later."""
    with kernel("fill") as built:
        x, out, task_count = _arguments()
        steps = bind(T.truncdiv(x.shape[0], task_count * i64(WIDTH)))
        with parallel(task_count) as task:
            with serial(steps) as step:
                store(x, ((task * steps + step) * WIDTH,), splat(1.0, WIDTH), WIDTH)
            store(out, (task, i64(0)), splat(1.0, WIDTH), WIDTH)
    return built.get()


def read_sum(lanes: int) -> PrimFunc:
    """out (tasks, WIDTH) begins with the sums of the tasks' ranges of x (n,), lane by lane."""
    with kernel("read_sum") as built:
        x, out, task_count = _arguments()
        width = CHAINS * lanes
        steps = bind(T.truncdiv(x.shape[0], task_count * i64(width)))
        with parallel(task_count) as task:
            sums = [Accumulator(lanes) for _ in range(CHAINS)]
            with serial(steps) as step:
                first = bind((task * steps + step) * width)
                for i, total in enumerate(sums):
                    total.add(load(x, (first + i64(i * lanes),), lanes))
            store(out, (task, i64(0)), _added([total.get() for total in sums]), lanes)
    return built.get()


def multiply_add(lanes: int) -> PrimFunc:
    """Rounds of sum = sum * out + out; out (tasks, WIDTH) then begins with half of the sums' mean.

    Arguments of the kernel: rounds, out. With out = 0.5 each sum tends to 1, and out stays 0.5.
    """
    with kernel("multiply_add") as built:
        rounds = T.arg("rounds", T.int64())
        task_count = size()
        out = argument("out", (task_count, WIDTH))
        with parallel(task_count) as task:
            half = bind(load(out, (task, i64(0)), lanes))
            sums = [Accumulator(lanes, half) for _ in range(CHAINS)]
            with serial(rounds):
                for total in sums * (WIDTH // lanes):
                    total.set(half * total.get() + half)
            mean = _added([total.get() for total in sums]) * splat(0.5 / CHAINS, lanes)
            store(out, (task, i64(0)), mean, lanes)
    return built.get()


def multiply_add_int8(lanes: int, instruction: str) -> PrimFunc:
    """Rounds of dot products of four bytes a lane; the sums may wrap around.

    Arguments of the kernel: rounds, out (tasks, WIDTH) int32, whose bytes are the factors.
    """
    with kernel("multiply_add_int8") as built:
        rounds = T.arg("rounds", T.int64())
        task_count = size()
        out = argument("out", (task_count, WIDTH), "int32")
        origin = (i64(0),)
        with parallel(task_count) as task:
            factors = bind(T.reinterpret(f"int8x{4 * lanes}", load(out, (task, i64(0)), lanes)))
            sums = [scratch((lanes,), "int32") for _ in range(CHAINS)]
            for total in sums:
                store(total, origin, splat(i32(0), lanes), lanes)
            with serial(rounds):
                for total in sums * (WIDTH // lanes):
                    operands = (load(total, origin, lanes), factors, factors)
                    dot = T.call_llvm_pure_intrin(f"int32x{lanes}", instruction, *operands)
                    store(total, origin, dot, lanes)
            store(out, (task, i64(0)), _added([load(t, origin, lanes) for t in sums]), lanes)
    return built.get()


def _arguments() -> tuple[Buffer, Buffer, Expr]:
    """x (n,), out (tasks, WIDTH) and the number of tasks."""
    x, task_count = argument("x", (size(),)), size()
    return x, argument("out", (task_count, WIDTH)), task_count


def _added(vectors: list[Expr]) -> Expr:
    total = vectors[0]
    for vector in vectors[1:]:
        total = bind(total + vector)
    return total


def kernels_for(target: tvm.target.Target) -> dict[str, PrimFunc]:
    """The kernels for a target, by their names; without ``multiply_add_int8`` where it lacks it."""
    lanes = Isa.of(target).lanes
    found = {"fill": fill(), "read_sum": read_sum(lanes), "multiply_add": multiply_add(lanes)}
    for feature, instruction, width in _DOTS:
        if llvm_cpu_has_features(feature, target):
            found["multiply_add_int8"] = multiply_add_int8(width, instruction)
            break
    return found


def compile_peak_kernels(output: Path) -> None:
    """Compile the kernels for this CPU into a shared library.

    Raises:
        CompileError: there is no C compiler to link with.
    """
    compiler = find_compiler()
    target = tvm.target.Target(host_target())
    module = tvm.IRModule(
        {name: one.with_attr("global_symbol", name) for name, one in kernels_for(target).items()}
    )
    compile_kernels(module, target).export_library(str(output), cc=compiler)


if __name__ == "__main__":
    exit_with_parent()
    compile_peak_kernels(Path(sys.argv[1]))
