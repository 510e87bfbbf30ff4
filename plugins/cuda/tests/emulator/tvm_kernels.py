"""Kernels of TVM, compiled and run in the process that has an emulated GPU: see :mod:`worker`."""

from __future__ import annotations

import ctypes
import functools
import re
from typing import Any

import cuda_api
import numpy as np
import tvm
import tvm_ffi
from target import TARGET

BARRIER = re.compile(r"\b__syncthreads\(\);")

left_out: int | None = None
barriers = 0


@tvm_ffi.register_global_func("tvm_callback_cuda_compile", override=True)
def _compile(text: str) -> bytes:
    """Machine code of the text that TVM generates, less one barrier if that was asked for."""
    global barriers
    barriers = len(BARRIER.findall(text))
    if left_out is not None:
        place = list(BARRIER.finditer(text))[left_out]
        text = text[: place.start()] + text[place.end() :]
    return cuda_api.compile_text(text)


def leave_out_barrier(number: int | None) -> None:
    """Compile from now on without this barrier of each text, counted from 0."""
    global left_out
    left_out = number
    _function.cache_clear()


@functools.lru_cache(maxsize=8)
def _function(json: str) -> Any:
    kernel = tvm.ir.load_json(json)
    target = tvm.target.Target(TARGET, host={"kind": "llvm"})
    with target:  # the architecture is that of the target around
        return tvm.compile(kernel, target)[str(kernel.attrs["global_symbol"])]


def _pass(arguments: tuple[Any, ...]) -> list[Any]:
    return [
        tvm.runtime.tensor(np.ascontiguousarray(a), tvm.cuda(0)) if isinstance(a, np.ndarray) else a
        for a in arguments
    ]


def _arrays(passed: list[Any]) -> list[np.ndarray]:
    return [a.numpy() for a in passed if isinstance(a, tvm.runtime.Tensor)]


def run(json: str, *arguments: Any) -> list[np.ndarray]:
    """Run a PrimFunc; returns its arrays as they are then."""
    passed = _pass(arguments)
    _function(json)(*passed)
    return _arrays(passed)


def run_as_graph(json: str, times: int, *arguments: Any) -> list[np.ndarray]:
    """Capture one call as a graph, and launch that several times."""
    passed, function = _pass(arguments), _function(json)
    runtime, graph, executable = cuda_api.RUNTIME, ctypes.c_void_p(), ctypes.c_void_p()
    cuda_api.check(runtime.cudaStreamBeginCapture(None, 0))
    function(*passed)
    cuda_api.check(runtime.cudaStreamEndCapture(None, ctypes.byref(graph)))
    cuda_api.check(runtime.cudaGraphInstantiate(ctypes.byref(executable), graph, 0))
    for _ in range(times):
        cuda_api.check(runtime.cudaGraphLaunch(executable, None))
    return _arrays(passed)
