"""Where the files of NVIDIA's wheels are, and how their libraries are opened.

The wheels of CUDA 13 share one folder, ``nvidia/cu13``. A library in it is opened by its path, so
that neither the loader's path nor a variable such as ``CUDA_PATH`` matters. Of a library that the
process has already, no second copy is opened.

``import tvm`` imports this module, so it imports little itself.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

MAJOR = 13
"""The CUDA version that apache-tvm's wheels are built for."""
WINDOWS = sys.platform == "win32"

DRIVER = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
CUDART = f"cudart64_{MAJOR}.dll" if WINDOWS else f"libcudart.so.{MAJOR}"
NVRTC = f"nvrtc64_{MAJOR}0_0.dll" if WINDOWS else f"libnvrtc.so.{MAJOR}"
NVRTC_BUILTINS = f"nvrtc-builtins64_{MAJOR}0.dll" if WINDOWS else f"libnvrtc-builtins.so.{MAJOR}.0"
NVFATBIN = f"nvfatbin_{MAJOR}0_0.dll" if WINDOWS else f"libnvfatbin.so.{MAJOR}"
"""File names of the libraries."""
LIBRARIES = (CUDART, NVRTC, NVRTC_BUILTINS, NVFATBIN)
"""Those of the wheels."""

WHEELS = {
    CUDART: "nvidia-cuda-runtime",
    NVRTC: "nvidia-cuda-nvrtc",
    NVRTC_BUILTINS: "nvidia-cuda-nvrtc",
    NVFATBIN: "nvidia-nvfatbin",
    "cuda_fp16.h": "nvidia-cuda-runtime",
    "crt/host_defines.h": "nvidia-cuda-crt",
    "cccl/cuda/std/cstdint": "nvidia-cuda-cccl",
}
"""What is used of the wheels: libraries, and one header of each wheel that has headers."""


class MissingPart(Exception):
    """A file of NVIDIA's wheels is not there, or a library of them cannot be opened.

    Args:
        part: the file's name, one of :data:`WHEELS`.
        reason: why it cannot be used.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"{part} {reason}")
        self.wheel = WHEELS[part]


def toolkit_folders() -> list[Path]:
    """The folders of the wheels; there is more than one where packages are in several places."""
    import importlib.util

    spec = importlib.util.find_spec("nvidia")
    places = (spec.submodule_search_locations or []) if spec else []
    return [folder for place in places if (folder := Path(place) / f"cu{MAJOR}").is_dir()]


def find_library(name: str) -> Path | None:
    """A library in the wheels, or None where it is not installed."""
    subfolders = ("bin/x86_64", "bin/arm64", "bin") if WINDOWS else ("lib",)
    for folder in toolkit_folders():
        for subfolder in subfolders:
            if (path := folder / subfolder / name).is_file():
                return path
    return None


def find_header(name: str) -> Path | None:
    """A header in the wheels, or None where it is not installed."""
    paths = (folder / "include" / name for folder in toolkit_folders())
    return next((path for path in paths if path.is_file()), None)


def include_folders() -> list[Path]:
    """Where the compiler looks for headers.

    Raises:
        MissingPart: a wheel with headers is not installed.
    """
    for name in WHEELS:
        if name not in LIBRARIES and find_header(name) is None:
            raise MissingPart(name, "is not installed")
    includes = [folder / "include" for folder in toolkit_folders()]
    return [*includes, *(path for folder in includes if (path := folder / "cccl").is_dir())]


def open_library(name: str) -> ctypes.CDLL:
    """Open a library of CUDA: that of the process, of the wheels, or of the system.

    Args:
        name: its file name.

    Raises:
        MissingPart: it cannot be opened.
    """
    if (opened := _opened(name)) is not None:
        return opened
    path = find_library(name)
    try:
        return ctypes.CDLL(name if path is None else str(path))
    except OSError as error:
        reason = "is not installed" if path is None else f"cannot be opened ({error})"
        raise MissingPart(name, reason) from None


def _opened(name: str) -> ctypes.CDLL | None:
    """A library that the process has; on Windows the loader itself finds it by its name."""
    if WINDOWS:
        return None
    try:
        return ctypes.CDLL(name, os.RTLD_LOCAL | os.RTLD_NOLOAD)
    except OSError:
        return None
