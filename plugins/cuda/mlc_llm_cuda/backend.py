"""Gives TVM its CUDA devices; called by ``import tvm`` through the entry point ``tvm.backends``.

TVM's own try to load its CUDA runtime, just before, fails unless CUDA's runtime library is where
the system's loader looks, and with TVM's runtime alone (``TVM_USE_RUNTIME_LIB=1``) it does not
try. Here that library is opened from NVIDIA's wheel first.

Every program that imports TVM runs this: where there is no driver, it ends after one look.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from mlc_llm_cuda.toolkit import CUDART, DRIVER, MissingPart, open_library

problem = ""
"""Why TVM has no CUDA devices although there is a driver, when :func:`load` failed."""


def load() -> None:
    """Load TVM's CUDA runtime where there is a driver, unless TVM has loaded it.

    A failure raises nothing, since it must not disturb ``import tvm`` in a program that wants
    another device; it is kept in :data:`problem`.
    """
    global problem
    if sys.platform == "darwin" or loaded():
        return
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return
    try:
        load_runtime()
    except (MissingPart, OSError, RuntimeError) as error:
        problem = str(error)


def loaded() -> bool:
    """Whether TVM has its CUDA runtime."""
    from tvm_ffi import get_global_func

    return get_global_func("device_api.cuda", allow_missing=True) is not None


def load_runtime() -> None:
    """Load TVM's CUDA runtime. A driver must be there, or stand in.

    Raises:
        MissingPart: CUDA's runtime library cannot be opened.
        OSError: TVM's CUDA runtime cannot be.
        RuntimeError: it is not installed.
    """
    from tvm.base import _LOADED_LIBS
    from tvm_ffi.libinfo import load_lib_ctypes

    open_library(CUDART)
    load_lib_ctypes(
        package="tvm",
        target_name="tvm_runtime_cuda",
        mode="RTLD_LOCAL",
        extra_lib_paths=[Path(_LOADED_LIBS["tvm_runtime"]._name).resolve().parent],
    )
