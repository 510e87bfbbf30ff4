"""The passes from kernels to what LLVM takes, for CPUs.

TVM's own pipeline has three times as many: for GPUs, and to simplify what LLVM simplifies again.
Kernels of thousands of unrolled instructions take seconds in each of those.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import s_tir, tirx
from tvm.ir.transform import Pass, Sequential
from tvm.tirx.compilation_pipeline import register_tir_pipeline

CPU_KERNELS = "mlc_llm.cpu_kernels"
"""The pipeline's name, as ``relax.build(tir_pipeline=...)`` takes it."""


def _loops() -> list[Pass]:
    """Blocks of iterations become loops over flat memory."""
    return [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        tirx.transform.BF16ComputeLegalize(),
        tirx.transform.NarrowDataType(32),
    ]


def _instructions() -> list[Pass]:
    """Loops become vectors and straight code."""
    return [
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(),
        tirx.transform.StorageRewrite(),
        tirx.transform.UnrollLoop(),
        tirx.transform.StmtSimplify(),
        s_tir.transform.RewriteUnsafeSelect(),
    ]


def _functions() -> list[Pass]:
    """Kernels become functions that check their arguments."""
    return [
        tirx.transform.VerifyMemory(),
        tirx.transform.AnnotateEntryFunc(),
        tirx.transform.SplitHostDevice(),
        tirx.transform.MakePackedAPI(),
        tirx.transform.BF16StorageLegalize(),
    ]


def _host() -> Pass:
    return Sequential([tirx.transform.LowerTVMBuiltin(), tirx.transform.LowerIntrin()])


def _device() -> Pass:
    """What runs for GPU kernels, of which there are none."""
    return Sequential([])


def _pipeline() -> tuple[Pass, Callable[[], Pass], Callable[[], Pass]]:
    return Sequential([*_loops(), *_instructions(), *_functions()]), _host, _device


register_tir_pipeline(CPU_KERNELS, _pipeline)


def kernel_pipeline(target: tvm.target.Target) -> str:
    """The name of the pipeline for a target's kernels."""
    return CPU_KERNELS if target.kind.name == "llvm" else "default"


def compile_kernels(
    kernels: tirx.PrimFunc | tvm.IRModule, target: tvm.target.Target
) -> tvm.runtime.Executable:
    """Compile kernels by themselves, just as those of a library; they are called by their names."""
    return tvm.compile(kernels, target, tir_pipeline=kernel_pipeline(target))
