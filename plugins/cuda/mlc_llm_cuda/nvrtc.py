"""NVIDIA's runtime compiler (NVRTC), from CUDA C to machine code or PTX, without a GPU or a driver.

Floating-point arithmetic is as the language defines it: nothing is flushed to zero, divisions and
square roots are rounded correctly, and functions are those of CUDA's library (``--use_fast_math``
is not given).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import NoReturn

from mlc_llm.errors import CompileError
from mlc_llm_cuda.target import PTX
from mlc_llm_cuda.toolkit import NVRTC, NVRTC_BUILTINS, include_folders, open_library

ERROR_COMPILATION = 6
"""From ``nvrtc.h``: there is a log."""
FILE_NAME = b"mlc_llm_kernels.cu"
_MOST_OF_A_LOG = 4000

HOST_HEADERS = frozenset({"#include <cuda.h>"})
"""Lines of TVM's CUDA C that are for the host's compiler."""

PREAMBLE = """\
#include <cuda/std/cstdint>
using cuda::std::int8_t;
using cuda::std::int16_t;
using cuda::std::int32_t;
using cuda::std::int64_t;
using cuda::std::uint8_t;
using cuda::std::uint16_t;
using cuda::std::uint32_t;
using cuda::std::uint64_t;
#define INFINITY __int_as_float(0x7f800000)
"""
"""What TVM's CUDA C takes from the host's headers, which NVRTC does not have."""

FLAGS = ("--std=c++17",)


def compile_source(source: str, code: str) -> bytes:
    """Compile CUDA C.

    Args:
        source: the text of all kernels of a library.
        code: ``sm_86`` for machine code, ``compute_86`` for PTX, which ends with a zero byte.

    Raises:
        CompileError: it does not compile; the message has what the compiler said.
        MissingPart: NVRTC or its headers cannot be found.
    """
    open_library(NVRTC_BUILTINS)  # NVRTC asks the loader for it, and by its name alone.
    nvrtc = open_library(NVRTC)
    program = ctypes.c_void_p()
    lines = (line for line in source.splitlines() if line.strip() not in HOST_HEADERS)
    text = (PREAMBLE + "\n".join(lines)).encode()
    made = nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, FILE_NAME, 0, None, None)
    _check(nvrtc, made)
    try:
        options = [*FLAGS, f"--gpu-architecture={code}"]
        options += [f"--include-path={folder}" for folder in include_folders()]
        given = (ctypes.c_char_p * len(options))(*map(os.fsencode, options))
        status = nvrtc.nvrtcCompileProgram(program, len(options), given)
        if status == ERROR_COMPILATION:
            _refuse(nvrtc, program, code)
        _check(nvrtc, status)
        return _result(nvrtc, program, "PTX" if code.startswith(PTX) else "CUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def supported() -> Sequence[int]:
    """The compute capabilities, without their points, that NVRTC compiles for."""
    nvrtc, count = open_library(NVRTC), ctypes.c_int()
    _check(nvrtc, nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    capabilities = (ctypes.c_int * count.value)()
    _check(nvrtc, nvrtc.nvrtcGetSupportedArchs(capabilities))
    return list(capabilities)


def _result(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, kind: str) -> bytes:
    """What a program became: its ``PTX``, ``CUBIN`` or ``ProgramLog``."""
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer))
    return buffer.raw


def _refuse(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, code: str) -> NoReturn:
    log = _result(nvrtc, program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace").strip()
    raise CompileError(f"NVRTC cannot compile the kernels for {code}: {log[:_MOST_OF_A_LOG]}")


def _check(nvrtc: ctypes.CDLL, status: int) -> None:
    if status:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        words = (nvrtc.nvrtcGetErrorString(status) or b"").decode("utf-8", "replace")
        raise CompileError(f"NVRTC failed: {words or status}")
