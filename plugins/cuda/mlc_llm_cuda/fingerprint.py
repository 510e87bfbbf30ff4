"""What the probe's answer depends on: the driver's files, and those of this distribution."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.plugin.fingerprint import describe_files, library_files
from mlc_llm.plugin.packages import package_folders
from mlc_llm_cuda.driver import PCI_DEVICES, WSL_DEVICE
from mlc_llm_cuda.toolkit import (
    CUDART,
    DRIVER,
    LIBRARIES,
    WHEELS,
    find_header,
    find_library,
)


def fingerprint() -> str:
    """Text that changes when the driver, a GPU, a wheel of NVIDIA's or a file of ours does."""
    return f"{platform.system()}\n{describe_files([*driver_files(), *wheel_files(), *own_files()])}"


def driver_files() -> Iterator[Path]:
    """Files by which a change of the driver, or of the GPUs that are there, is noticed."""
    if platform.system() == "Windows":
        system = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
        yield from (system / DRIVER, system / CUDART)
        return
    yield Path("/proc/driver/nvidia/version")
    yield from Path("/dev").glob("nvidia*")
    yield from Path("/proc/driver/nvidia/capabilities/").glob("gpu*/mig/*")
    yield WSL_DEVICE
    yield from (path / "vendor" for path in PCI_DEVICES.glob("*"))
    yield from library_files(DRIVER, CUDART)


def wheel_files() -> Iterator[Path]:
    """The libraries and headers of NVIDIA's wheels."""
    for name in WHEELS:
        path = find_library(name) if name in LIBRARIES else find_header(name)
        if path is not None:
            yield path


def own_files() -> Iterator[Path]:
    """The Python files that the answer goes through."""
    for folder in package_folders("mlc_llm_cuda"):
        yield from folder.glob("*.py")
