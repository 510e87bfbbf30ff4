"""What NVIDIA's management library (NVML) says beside the driver; it is what nvidia-smi asks.

It is part of the driver. Where it is missing or refuses, as in some containers, what it would say
is left out. Names and layouts are those of ``nvml.h``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

from mlc_llm_cuda.toolkit import WINDOWS

LIBRARY = "nvml.dll" if WINDOWS else "libnvidia-ml.so.1"
MIG_ENABLED = 1


class Memory(ctypes.Structure):
    """``nvmlMemory_t``, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def driver_version() -> str:
    """The driver's version, such as ``580.65.06``; empty where it is not known."""
    text = ctypes.create_string_buffer(80)
    with _library() as nvml:
        if nvml is None or nvml.nvmlSystemGetDriverVersion(text, len(text)):
            return ""
    return text.value.decode("utf-8", "replace")


def free_memory(uuid: str) -> int | None:
    """Bytes of memory that nothing uses now, or None where they are not known.

    Args:
        uuid: the GPU's, or a MIG instance's.
    """
    handle, memory = ctypes.c_void_p(), Memory()
    with _library() as nvml:
        if nvml is None or nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)):
            return None
        status = nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return None if status else int(memory.free)


def split_without_instances() -> list[str]:
    """Names of the GPUs that are in MIG mode; asked where the driver finds no instance."""
    with _library() as nvml:
        if nvml is None:
            return []
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return [name for i in range(count.value) if (name := _name_in_mig_mode(nvml, i))]


def _name_in_mig_mode(nvml: ctypes.CDLL, index: int) -> str:
    """A GPU's name, or nothing where it is not in MIG mode."""
    handle, now, later = ctypes.c_void_p(), ctypes.c_uint(), ctypes.c_uint()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
        return ""
    if nvml.nvmlDeviceGetMigMode(handle, ctypes.byref(now), ctypes.byref(later)):
        return ""
    name = ctypes.create_string_buffer(96)
    nvml.nvmlDeviceGetName(handle, name, len(name))
    return name.value.decode("utf-8", "replace") if now.value == MIG_ENABLED else ""


@contextmanager
def _library() -> Iterator[ctypes.CDLL | None]:
    """The library, initialised; None where that fails."""
    try:
        nvml = ctypes.CDLL(LIBRARY)
    except OSError:
        yield None
        return
    if nvml.nvmlInit_v2():
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()
