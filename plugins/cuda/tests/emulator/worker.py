"""A process that has an emulated GPU and does what it is told through two pipes.

:mod:`gpu` starts it, with LD_PRELOAD. A request is a pickled (name of a function here, positional
arguments, arguments by name); an answer is a pickled (whether it succeeded, result or message,
whether the process ends, since a kernel has failed).
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any

import cuda_api
import numpy as np


def set_variable(name: str, value: str | None) -> None:
    """Change the environment, which the emulator looks at whenever a kernel is launched."""
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def run_text(*arguments: Any, **options: Any) -> list[np.ndarray]:
    """See :func:`cuda_api.run`."""
    return cuda_api.run(*arguments, **options)


def fail_and_go_on(text: str) -> None:
    """Run a kernel that fails, and then raise what even a free call is answered."""
    try:
        cuda_api.run(text, (1,), (1,), np.zeros(1, "float32"), np.zeros(1, "float32"), 64)
    except RuntimeError:
        memory(0)


def run_as_graph(text: str, times: int, array: np.ndarray) -> np.ndarray:
    """See :func:`cuda_api.run_as_graph`."""
    return cuda_api.run_as_graph(text, times, array)


def allocate_in_capture(flags: int, mode: int, elsewhere: bool) -> None:
    """See :func:`cuda_api.allocate_in_capture`."""
    cuda_api.allocate_in_capture(flags, mode, elsewhere)


def compile_text(text: str, architecture: str = "sm_90") -> bytes:
    """Machine code."""
    return cuda_api.compile_text(text, architecture)


def compile_for(text: str, *architectures: str) -> bytes:
    """Machine code for several architectures, in one."""
    codes = [(one, cuda_api.compile_text(text, one)) for one in architectures]
    return cuda_api.join(codes)


def load(code: bytes, name: str) -> None:
    """Load machine code, and find a kernel in it."""
    cuda_api.function(code, name)


def allocate(size: int, device: int = 0) -> int:
    """The address of new memory of a device."""
    cuda_api.check(cuda_api.RUNTIME.cudaSetDevice(device))
    return cuda_api.allocate(size).value or 0


def free(address: int) -> None:
    cuda_api.check(cuda_api.RUNTIME.cudaFree(ctypes.c_void_p(address)))


def read_from_host(address: int) -> int:
    """A byte of the device's memory, read as if it were the host's."""
    return ctypes.c_ubyte.from_address(address).value


def memory(device: int) -> tuple[int, int]:
    """Bytes free and in all."""
    free_bytes, total = ctypes.c_size_t(), ctypes.c_size_t()
    cuda_api.check(cuda_api.RUNTIME.cudaSetDevice(device))
    cuda_api.check(cuda_api.RUNTIME.cudaMemGetInfo(ctypes.byref(free_bytes), ctypes.byref(total)))
    return free_bytes.value, total.value


def devices() -> list[str]:
    """The names of the devices, as the driver gives them."""
    count, name = ctypes.c_int(), ctypes.create_string_buffer(100)
    cuda_api.DRIVER.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for ordinal in range(count.value):
        cuda_api.DRIVER.cuDeviceGetName(name, len(name), ordinal)
        names.append(name.value.decode())
    return names


def open_library(path: str) -> bool:
    """Whether a file that has the name of one of the emulator's libraries opens as that."""
    ours = ctypes.cast(cuda_api.NVRTC.nvrtcVersion, ctypes.c_void_p).value
    return ctypes.cast(ctypes.CDLL(path).nvrtcVersion, ctypes.c_void_p).value == ours


def run_kernel(json: str, *arguments: Any) -> list[np.ndarray]:
    """See :func:`tvm_kernels.run`."""
    import tvm_kernels

    return tvm_kernels.run(json, *arguments)


def family_distance(name: str, quantization: str, libraries: str) -> float:
    """See :func:`mlc_llm.testing.families.distance_from_cpu`."""
    from mlc_llm_cuda import DEVICE

    from mlc_llm.library.cache import LibraryCache
    from mlc_llm.testing.families import distance_from_cpu

    return distance_from_cpu(name, quantization, DEVICE, LibraryCache(Path(libraries)))


def leave_out_barrier(number: int | None) -> None:
    """See :func:`tvm_kernels.leave_out_barrier`."""
    import tvm_kernels

    tvm_kernels.leave_out_barrier(number)


def barriers() -> int:
    """The barriers in the text that was compiled last."""
    import tvm_kernels

    return tvm_kernels.barriers


def main() -> None:
    requests = os.fdopen(int(sys.argv[1]), "rb")
    answers = os.fdopen(int(sys.argv[2]), "wb")
    while True:
        try:
            name, arguments, options = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = True, globals()[name](*arguments, **options), False
        except Exception as error:
            traceback.print_exc()
            # TVM ends a process that frees a tensor after a kernel has failed: end it before.
            ended = bool(cuda_api.RUNTIME.cudaPeekAtLastError())
            pickle.dump((False, str(error), ended), answers)
            answers.flush()
            if ended:
                os._exit(1)
            continue
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
