"""What the device is made of, tried one after the other, for ``mlc_llm doctor``."""

from __future__ import annotations

from mlc_llm.plugin import Unavailable
from mlc_llm_cuda import management, nvrtc, parts, toolkit
from mlc_llm_cuda.driver import GPU, find_gpus, open_driver
from mlc_llm_cuda.target import MACHINE_CODE, dotted, target_of

KERNEL = 'extern "C" __global__ void trial(int* x) { x[threadIdx.x] += 1; }'
THREADS = 64


def driver() -> str:
    """NVIDIA's driver, and its GPUs."""
    version = management.driver_version() or "of an unknown version"
    names = (f"{gpu.name} ({dotted(gpu.capability)})" for gpu in _gpus())
    return f"{version}; {', '.join(names)}"


def runtime_library() -> str:
    """CUDA's runtime library, of NVIDIA's wheel."""
    return _opened(toolkit.CUDART)


def compiler() -> str:
    """NVRTC, its headers, and nvFatbin."""
    parts.require_toolkit()
    return _opened(toolkit.NVRTC)


def tvm_runtime() -> str:
    """TVM's CUDA runtime; where there is a driver, whether it has the GPUs."""
    parts.require_tvm_runtime()
    gpus = _gpus()
    parts.require_devices(gpus)
    return f"it has {len(gpus)} of {len(gpus)} GPUs"


def compiling() -> str:
    """A kernel becomes machine code."""
    capability = _capability_or(90)
    code = nvrtc.compile_source(KERNEL, f"{MACHINE_CODE}{capability}")
    return f"a kernel for {dotted(capability)} has {len(code)} bytes"


def running() -> str:
    """A kernel that TVM makes is compiled, loaded and run on the first GPU."""
    (gpu, *_) = _gpus()
    import numpy as np
    import tvm

    from mlc_llm_cuda.codegen import CUDACodegen

    target = target_of(gpu.capability)
    CUDACodegen(target, {})
    device = tvm.cuda(gpu.ordinal)
    x = np.arange(THREADS, dtype="int32")
    y = tvm.runtime.tensor(np.zeros_like(x), device)
    full = tvm.target.Target(target, host={"kind": "llvm"})
    with full:
        module = tvm.compile(_doubling(), full)
    module["doubling"](tvm.runtime.tensor(x, device), y)
    if not np.array_equal(y.numpy(), 2 * x):
        raise RuntimeError(f"a kernel's result on {gpu.name} is wrong: {y.numpy()[:4]}")
    return f"a kernel on {gpu.name} gives the right result"


TRIALS = {
    "driver": driver,
    "runtime library": runtime_library,
    "compiler": compiler,
    "TVM's runtime": tvm_runtime,
    "compiling": compiling,
    "running": running,
}
"""In the order in which one builds on another."""


def _gpus() -> list[GPU]:
    return find_gpus(open_driver())


def _capability_or(otherwise: int) -> int:
    """The first GPU's compute capability; the given one where there is no GPU."""
    try:
        return _gpus()[0].capability
    except Unavailable:
        return otherwise


def _opened(name: str) -> str:
    """Open a library; says which file it is."""
    try:
        toolkit.open_library(name)
    except toolkit.MissingPart as error:
        raise parts.missing(error) from None
    return str(toolkit.find_library(name) or name)


def _doubling() -> object:
    """The PrimFunc ``doubling`` of x and y (THREADS,) int32."""
    from mlc_llm.compile.gpu.kernels.launch import argument, i32, kernel, launch, write

    with kernel("doubling") as built:
        x = argument("x", (THREADS,), "int32")
        y = argument("y", (THREADS,), "int32")
        with launch([i32(1)], THREADS) as (_, thread):
            write(y, (thread,), x[thread] + x[thread])
    return built.get()
