"""Code for several GPUs as one, a fatbin; the driver takes what fits when it is loaded."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from mlc_llm.errors import CompileError
from mlc_llm_cuda.target import MACHINE_CODE, PTX
from mlc_llm_cuda.toolkit import NVFATBIN, open_library

OPTIONS = (b"-64", b"-cuda")
IDENTIFIER = b"mlc_llm_kernels"


def join(images: Mapping[str, bytes]) -> bytes:
    """Put code for several GPUs together.

    Args:
        images: machine code and PTX by what it is for, such as ``sm_86`` and ``compute_90``.

    Raises:
        CompileError: nvFatbin refuses it.
        MissingPart: nvFatbin cannot be opened.
    """
    library = open_library(NVFATBIN)
    fatbin, size = ctypes.c_void_p(), ctypes.c_size_t()
    options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
    count = ctypes.c_size_t(len(OPTIONS))
    _check(library, library.nvFatbinCreate(ctypes.byref(fatbin), options, count))
    try:
        for code, image in images.items():
            _check(library, _add(library, fatbin, code, image))
        _check(library, library.nvFatbinSize(fatbin, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        _check(library, library.nvFatbinGet(fatbin, buffer))
        return buffer.raw
    finally:
        library.nvFatbinDestroy(ctypes.byref(fatbin))


def _add(library: ctypes.CDLL, fatbin: ctypes.c_void_p, code: str, image: bytes) -> int:
    size = ctypes.c_size_t(len(image))
    if code.startswith(PTX):
        number = code.removeprefix(PTX).encode()
        return int(library.nvFatbinAddPTX(fatbin, image, size, number, IDENTIFIER, None))
    number = code.removeprefix(MACHINE_CODE).encode()
    return int(library.nvFatbinAddCubin(fatbin, image, size, number, IDENTIFIER))


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        library.nvFatbinGetErrorString.restype = ctypes.c_char_p
        words = (library.nvFatbinGetErrorString(status) or b"").decode("utf-8", "replace")
        raise CompileError(f"The code for several GPUs cannot be joined: {words or status}")
