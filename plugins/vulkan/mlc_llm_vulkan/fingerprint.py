"""What the probe's answer depends on: the drivers' files, and those of this distribution."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.plugin.fingerprint import describe_files, library_files
from mlc_llm_vulkan.parts import package_folders, wgpu_libraries

MANIFEST_FOLDERS = ("/etc", "/usr/share", "/usr/local/share", "/usr/local/etc", "~/.local/share")
"""Where the loader looks for ``vulkan/icd.d``, which lists the drivers."""


def fingerprint() -> str:
    """Text that changes when a driver, a GPU, wgpu-native or a file of ours does."""
    return f"{platform.system()}\n{describe_files([*driver_files(), *own_files()])}"


def driver_files() -> Iterator[Path]:
    """Files by which a change of the loader, its drivers, or the GPUs that are there is noticed."""
    if platform.system() == "Windows":
        yield Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "vulkan-1.dll"
        return
    yield from Path("/dev").glob("nvidia*")
    yield from Path("/dev/dri").glob("*")
    yield from (Path("/dev/dxg"), Path("/proc/driver/nvidia/version"))
    for folder in MANIFEST_FOLDERS:
        with contextlib.suppress(RuntimeError):  # There may be no home folder.
            yield from Path(folder).expanduser().glob("vulkan/icd.d/*.json")
    yield from library_files("libvulkan.so.1")


def own_files() -> Iterator[Path]:
    """The Python files and libraries that the answer goes through."""
    yield from wgpu_libraries()
    for folder in package_folders("mlc_llm_vulkan"):
        yield from (path for path in folder.iterdir() if path.is_file())
