"""The GPU of the bundle's steps, and the step that says what it is."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""What a step found: see :mod:`.side`."""


class NoGPU(Exception):
    """There is no GPU that can be used; the message says why."""


def device() -> Any:
    """TVM's first GPU, with TVM's runtime alone.

    Raises:
        NoGPU: there is none.
    """
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    import tvm
    from mlc_llm_cuda import backend

    backend.load()
    if not backend.loaded():
        raise NoGPU(backend.problem or "there is no NVIDIA driver (libcuda.so.1)")
    found = tvm.cuda(0)
    if not found.exist:
        raise NoGPU("CUDA's runtime library finds no GPU that it can use")
    return found


def open_library(path: Path) -> Any:
    """A library of kernels."""
    import tvm

    return tvm.runtime.load_module(str(path))


def gpu(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """The driver's GPUs, and whether TVM has the first one."""
    from mlc_llm_cuda import driver, management

    from mlc_llm.plugin import Unavailable

    try:
        gpus = driver.find_gpus(driver.open_driver())
    except Unavailable as error:
        answer = error.availability
        raise NoGPU(f"{answer.reason}. {answer.remedy}".strip()) from None
    for found in gpus:
        note = (
            f"compute capability {found.capability / 10:.1f}, {found.memory / 2**30:.1f} GiB, "
            f"driver {management.driver_version() or 'unknown'}"
        )
        yield {"what": found.name, "note": note}
    yield {"what": "TVM's CUDA runtime", "ok": bool(device().exist)}
    yield {"what": "Python", "note": f"{platform.python_version()}, {platform.platform()}"}
    yield {"what": "made of", "note": contents["commit"]}
