"""Kernels of TVM, compiled and run in the process that has an emulated GPU: see :mod:`worker`."""

from __future__ import annotations

import functools
import re
from typing import Any

import cuda_api
import numpy as np
import tvm
import tvm_ffi
from target import TARGET

BARRIER = re.compile(r"\b__syncthreads\(\);")
GUARDED = re.compile(r"#ifndef (\w+)\n#define \1\n.*?#endif\n", re.DOTALL)
"""Text that counts once: see ``mlc_llm_cuda.kernels.text``."""

left_out: int | None = None
barriers = 0


@tvm_ffi.register_global_func("tvm_callback_cuda_compile", override=True)
def _compile(text: str) -> bytes:
    """Machine code of the text that TVM generates, less one barrier if that was asked for."""
    global barriers
    text = _without_repeats(text)
    barriers = len(BARRIER.findall(text))
    if left_out is not None:
        place = list(BARRIER.finditer(text))[left_out]
        text = text[: place.start()] + text[place.end() :]
    return cuda_api.compile_text(text)


def _without_repeats(text: str) -> str:
    """Text without what guards leave out, where a barrier would be none of the kernel's."""
    names: set[str] = set()

    def first_time(guarded: re.Match[str]) -> str:
        seen = guarded[1] in names
        names.add(guarded[1])
        return "" if seen else guarded[0]

    return GUARDED.sub(first_time, text)


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


def run(json: str, *arguments: Any) -> list[np.ndarray]:
    """Run a PrimFunc; returns its arrays as they are then."""
    passed = [
        tvm.runtime.tensor(np.ascontiguousarray(a), tvm.cuda(0)) if isinstance(a, np.ndarray) else a
        for a in arguments
    ]
    _function(json)(*passed)
    return [a.numpy() for a in passed if isinstance(a, tvm.runtime.Tensor)]
