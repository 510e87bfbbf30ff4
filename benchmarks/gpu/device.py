"""The GPU of the bundle's steps, and the step that says what it is."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_llm.plugin import Unavailable
from mlc_llm.runtime.captured_pass import Capture

if TYPE_CHECKING:
    from mlc_llm_cuda.driver import GPU

Record = dict[str, Any]
"""What a step found: see :mod:`.side`."""


class NoGPU(Exception):
    """There is no GPU that can be used; the message says why."""


def device() -> Any:
    """TVM's handle of the first GPU that can be used, with TVM's runtime alone.

    Raises:
        NoGPU: there is none.
    """
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    (first, *_) = usable_gpus()
    import tvm
    from mlc_llm_cuda import backend

    backend.load()
    if not backend.loaded():
        raise NoGPU(f"TVM's CUDA runtime cannot be loaded: {backend.problem}")
    found = tvm.cuda(first.ordinal)
    if not found.exist:
        raise NoGPU(f"CUDA's runtime library cannot use {first.name}; check `nvidia-smi`")
    return found


def usable_gpus() -> Sequence[GPU]:
    """What the driver has.

    Raises:
        NoGPU: there is no driver, it is too old, or has no GPU that is new enough.
    """
    from mlc_llm_cuda import driver

    try:
        return driver.find_gpus(driver.open_driver())
    except Unavailable as error:
        answer = error.availability
        raise NoGPU(f"{answer.reason}. {answer.remedy}".strip()) from None


def graphs(handle: Any) -> Capture:
    """What captures a token's launches as a CUDA graph on a device, as chats do."""
    from mlc_llm_cuda import graph

    return partial(graph.capture, handle)


def open_library(path: Path) -> Any:
    """A library of kernels."""
    import tvm

    return tvm.runtime.load_module(str(path))


def gpu(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """The driver's GPUs, and whether TVM has the first one."""
    from mlc_llm_cuda import management

    yield {"what": "made of", "note": contents["commit"]}
    yield {"what": "Python", "note": f"{platform.python_version()}, {platform.platform()}"}
    gpus = usable_gpus()
    for found in gpus:
        note = (
            f"compute capability {found.capability / 10:.1f}, {found.memory / 2**30:.1f} GiB, "
            f"driver {management.driver_version() or 'unknown'}"
        )
        yield {"what": found.name, "note": note}
    oldest = min(map(int, contents["architectures"]))
    if gpus[0].capability < oldest:
        raise NoGPU(
            f"this bundle is for GPUs from {oldest / 10:.1f} on, and {gpus[0].name} has "
            f"{gpus[0].capability / 10:.1f}: pack one with --arch {gpus[0].capability}"
        )
    yield {"what": "clocks and limits", "note": _clocks()}
    yield {"what": "TVM's CUDA runtime", "ok": bool(device().exist)}


def _clocks() -> str:
    """What nvidia-smi says of the GPUs, where it is."""
    names = ("name", "clocks.max.sm", "clocks.max.mem", "power.limit", "ecc.mode.current")
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not say: {error}"
    return "; ".join(done.stdout.splitlines())
