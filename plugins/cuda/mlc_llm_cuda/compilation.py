"""From the CUDA C that TVM generates to machine code: what TVM calls when it makes a library."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import tvm
from tvm_ffi import get_global_func, register_global_func

from mlc_llm_cuda.fatbin import join
from mlc_llm_cuda.nvrtc import compile_source
from mlc_llm_cuda.target import code_of

CALLBACK = "tvm_callback_cuda_compile"
"""The function that TVM's CUDA runtime calls, within the target."""

_tvms_own = None
"""TVM's function of that name, once ours is in its place."""


def register() -> None:
    """Have TVM compile for targets of this device with :func:`machine_code`.

    Targets of other programs are compiled as before, with TVM's flags and the user's variables.
    """
    global _tvms_own
    if _tvms_own is None:
        _tvms_own = get_global_func(CALLBACK)
        register_global_func(CALLBACK, _compile, override=True)


def machine_code(source: str, code: Sequence[str]) -> bytes:
    """Compile CUDA C for one GPU or several.

    Args:
        source: the text of all kernels of a library.
        code: what is wanted, such as ``["sm_80", "sm_90", "compute_90"]``.

    Returns:
        The machine code or the PTX, or, of several, all of them as a fatbin.

    Raises:
        CompileError: it does not compile.
        MissingPart: NVRTC, its headers or nvFatbin cannot be found.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = dict(zip(code, pool.map(partial(compile_source, source), code), strict=True))
    return next(iter(images.values())) if len(images) == 1 else join(images)


def _compile(source: str) -> bytes:
    target = tvm.target.Target.current(allow_none=True)
    code = code_of({"keys": list(target.keys)} if target is not None else {})
    assert _tvms_own is not None
    return machine_code(source, code) if code else bytes(_tvms_own(source))
