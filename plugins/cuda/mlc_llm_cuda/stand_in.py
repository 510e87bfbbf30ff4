"""A driver without GPUs, so that libraries can be compiled where there is no driver.

TVM makes a module of machine code with its CUDA runtime, which the loader opens only where there is
a driver's library. All that is called of it then are these functions, when a kernel is launched.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from pathlib import Path

from mlc_llm.compile.compiler import find_compiler
from mlc_llm.errors import CompileError
from mlc_llm_cuda.driver import ERROR_NO_DEVICE
from mlc_llm_cuda.toolkit import DRIVER, WINDOWS

FUNCTIONS = (
    *("cuInit", "cuDriverGetVersion", "cuDeviceGetName", "cuGetErrorName", "cuGetErrorString"),
    *("cuModuleLoadData", "cuModuleUnload", "cuModuleGetFunction", "cuFuncSetAttribute"),
    *("cuLaunchKernelEx", "cuTensorMapEncodeTiled"),
)
"""Those of the driver that TVM's CUDA runtime refers to."""


def stand_in() -> None:
    """Load a library of the driver's name into this process, whose functions find no device.

    Raises:
        CompileError: there is no C compiler, or it fails; or this is Windows, where it is not done.
    """
    if WINDOWS:
        raise CompileError(
            "On Windows, libraries for the device 'cuda' are compiled where NVIDIA's driver is "
            "installed, and it is not here. Install it, or compile on Linux or in WSL."
        )
    lines = [f"int {name}(void) {{ return {ERROR_NO_DEVICE}; }}" for name in FUNCTIONS]
    try:
        with tempfile.TemporaryDirectory(prefix="mlc-llm-cuda-") as folder:
            source, library = Path(folder) / "driver.c", Path(folder) / DRIVER
            source.write_text("\n".join([*lines, ""]), encoding="ascii")
            command = [find_compiler(), "-shared", "-fPIC", f"-Wl,-soname,{DRIVER}"]
            command += ["-x", "c", str(source), "-o", str(library)]
            subprocess.run(command, check=True, capture_output=True, text=True)
            ctypes.CDLL(str(library))
    except (OSError, subprocess.CalledProcessError) as error:
        words = getattr(error, "stderr", "") or error
        raise CompileError(
            f"The driver's stand-in cannot be made: {words}\n`mlc_llm doctor` tries the compiler."
        ) from error
