"""NVRTC and the driver through ctypes, as a program would call them that knows of no emulator.

Part of :mod:`worker`, whose process has an emulated GPU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

DRIVER = ctypes.CDLL("libcuda.so.1")
RUNTIME = ctypes.CDLL("libcudart.so.13")
NVRTC = ctypes.CDLL("libnvrtc.so.13")
FATBIN = ctypes.CDLL("libnvfatbin.so.13")

for library in (DRIVER, RUNTIME):
    library.cudaGetErrorString.restype = ctypes.c_char_p


class LaunchConfig(ctypes.Structure):
    """``CUlaunchConfig`` of cuda.h."""

    _fields_ = [
        *((f"{what}{axis}", ctypes.c_uint) for what in ("grid", "block") for axis in "xyz"),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("attribute_count", ctypes.c_uint),
    ]


def check(status: int) -> None:
    """Raise what a call of the driver or the runtime complains of."""
    if status:
        raise RuntimeError(RUNTIME.cudaGetErrorString(status).decode())


def compile_text(text: str, architecture: str = "sm_90") -> bytes:
    """Machine code; raises RuntimeError with the compiler's words."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    NVRTC.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture={architecture}".encode())
    failed = NVRTC.nvrtcCompileProgram(program, 1, options)
    what = "ProgramLog" if failed else "CUBIN"
    getattr(NVRTC, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    answer = ctypes.create_string_buffer(size.value)
    getattr(NVRTC, f"nvrtcGet{what}")(program, answer)
    NVRTC.nvrtcDestroyProgram(ctypes.byref(program))
    if failed:
        raise RuntimeError(answer.value.decode())
    return answer.raw


def join(codes: list[tuple[str, bytes]]) -> bytes:
    """Machine code for several architectures, in one."""
    handle, size = ctypes.c_void_p(), ctypes.c_size_t()
    FATBIN.nvFatbinCreate(ctypes.byref(handle), None, ctypes.c_size_t(0))
    for architecture, code in codes:
        arch, length = architecture.encode(), ctypes.c_size_t(len(code))
        FATBIN.nvFatbinAddCubin(handle, code, length, arch, b"kernels")
    FATBIN.nvFatbinSize(handle, ctypes.byref(size))
    joined = ctypes.create_string_buffer(size.value)
    FATBIN.nvFatbinGet(handle, joined)
    FATBIN.nvFatbinDestroy(ctypes.byref(handle))
    return joined.raw


def function(code: bytes, name: str) -> ctypes.c_void_p:
    """A kernel of some machine code."""
    module, found = ctypes.c_void_p(), ctypes.c_void_p()
    check(DRIVER.cuModuleLoadData(ctypes.byref(module), code))
    check(DRIVER.cuModuleGetFunction(ctypes.byref(found), module, name.encode()))
    return found


def allocate(size: int) -> ctypes.c_void_p:
    """Device memory."""
    address = ctypes.c_void_p()
    check(RUNTIME.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(size)))
    return address


def copy(to: Any, source: Any, size: int) -> None:
    """Copy between host and device, and wait."""
    check(RUNTIME.cudaMemcpyAsync(to, source, ctypes.c_size_t(size), 4, None))
    check(RUNTIME.cudaStreamSynchronize(None))


def launch(
    kernel: ctypes.c_void_p,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    arguments: list[Any],
    shared_bytes: int = 0,
    stream: ctypes.c_void_p | None = None,
) -> None:
    """Start a kernel; ``arguments`` are ctypes' values."""
    sizes = [*grid, *[1] * (3 - len(grid)), *block, *[1] * (3 - len(block))]
    config = LaunchConfig(*sizes, shared_bytes, stream, None, 0)
    places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(one) for one in arguments))
    check(DRIVER.cuLaunchKernelEx(ctypes.byref(config), kernel, places, None))


def run(
    text: str,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    *values: Any,
    shared_bytes: int = 0,
    large_shared: bool = False,
) -> list[np.ndarray]:
    """Run the kernel ``f`` of a text; returns its arrays as they are then.

    Args:
        text: CUDA C.
        grid: blocks.
        block: threads.
        values: arrays are passed as device memory, whole numbers as ``int``.
        shared_bytes: of the shared memory whose size is the launch's.
        large_shared: whether more of it than usual is asked for first.
    """
    kernel = function(compile_text(text), "f")
    if large_shared:
        check(DRIVER.cuFuncSetAttribute(kernel, 8, shared_bytes))
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    places = {id(array): allocate(array.nbytes) for array in arrays}
    for array in arrays:
        copy(places[id(array)], ctypes.c_void_p(array.ctypes.data), array.nbytes)
    passed = [places[id(v)] if isinstance(v, np.ndarray) else ctypes.c_int(v) for v in values]
    launch(kernel, grid, block, passed, shared_bytes)
    for array in arrays:
        copy(ctypes.c_void_p(array.ctypes.data), places[id(array)], array.nbytes)
        check(RUNTIME.cudaFree(places[id(array)]))
    return arrays


def captured(flags: int, mode: int, work: Callable[[ctypes.c_void_p], None]) -> ctypes.c_void_p:
    """The graph of what ``work`` does with a stream.

    Args:
        flags: of the stream.
        mode: whose calls may make it fail.
        work: is given the stream.
    """
    stream, graph, executable = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    check(RUNTIME.cudaStreamCreateWithFlags(ctypes.byref(stream), flags))
    check(RUNTIME.cudaStreamBeginCapture(stream, mode))
    try:
        work(stream)
    finally:
        ended = RUNTIME.cudaStreamEndCapture(stream, ctypes.byref(graph))
        check(RUNTIME.cudaStreamDestroy(stream))
    check(ended)
    check(RUNTIME.cudaGraphInstantiate(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))
    check(RUNTIME.cudaGraphDestroy(graph))
    return executable


def run_as_graph(text: str, times: int, array: np.ndarray) -> np.ndarray:
    """Capture the kernel ``f``, of one thread, as a graph; launch that several times."""
    kernel, place = function(compile_text(text), "f"), allocate(array.nbytes)
    copy(place, ctypes.c_void_p(array.ctypes.data), array.nbytes)
    executable = captured(0, 0, lambda stream: launch(kernel, (1,), (1,), [place], stream=stream))
    for _ in range(times):
        check(RUNTIME.cudaGraphLaunch(executable, None))
    check(RUNTIME.cudaGraphExecDestroy(executable))
    copy(ctypes.c_void_p(array.ctypes.data), place, array.nbytes)
    return array


def allocate_in_capture(flags: int, mode: int, elsewhere: bool) -> None:
    """Take memory, and copy to it, where a stream is being captured.

    Args:
        flags: of the stream.
        mode: of the capture.
        elsewhere: whether another thread does so.
    """

    def use_memory() -> None:
        number = np.ones(1, "int32")
        copy(allocate(4), ctypes.c_void_p(number.ctypes.data), 4)

    def work(_stream: ctypes.c_void_p) -> None:
        if not elsewhere:
            return use_memory()
        with ThreadPoolExecutor(1) as threads:
            threads.submit(use_memory).result()

    check(RUNTIME.cudaGraphExecDestroy(captured(flags, mode, work)))
