"""What NVIDIA's driver says, asked through ctypes by the functions of its API (``cuda.h``).

TVM says only that there is no device, and not why. No context is made on a GPU, which would take
memory and time.
"""

from __future__ import annotations

import ctypes
import os
import platform
import uuid
from dataclasses import dataclass
from pathlib import Path

from mlc_llm.plugin import Unavailable
from mlc_llm.shown import shown
from mlc_llm_cuda import management
from mlc_llm_cuda.target import OLDEST, dotted
from mlc_llm_cuda.toolkit import DRIVER, MAJOR

NVIDIA_PCI_VENDOR = "0x10de"
PCI_DEVICES = Path("/sys/bus/pci/devices")
WSL_DEVICE = Path("/dev/dxg")
"""The GPU of Windows as WSL 2 has it."""
VISIBLE = "CUDA_VISIBLE_DEVICES"

# From cuda.h.
ERROR_NO_DEVICE = 100
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76

ON_WSL = (
    "Install NVIDIA's driver on Windows, not in WSL, which takes it from there; then "
    "`wsl --shutdown`."
)
INSTALL = "Install NVIDIA's driver; start a container with access to the GPUs (--gpus all)."
UPDATE = "Update NVIDIA's driver to version 580 or newer."


@dataclass(frozen=True)
class GPU:
    """A GPU, or a part of one (MIG), that the driver has.

    Args:
        ordinal: its place in the driver's list, which is TVM's, too.
        name: what the driver calls it.
        uuid: by which other libraries of the driver know it; empty where there is none.
        memory: bytes of its memory.
        capability: its compute capability without the point, as 86 for 8.6.
    """

    ordinal: int
    name: str
    uuid: str
    memory: int
    capability: int


def open_driver() -> ctypes.CDLL:
    """Open the driver's library.

    Raises:
        Unavailable: there is none.
    """
    if platform.system() == "Darwin":
        raise Unavailable("there is no CUDA for macOS")
    try:
        return ctypes.CDLL(DRIVER)
    except OSError as error:
        if is_wsl1():
            raise Unavailable(
                "WSL 1 has no access to GPUs", "Use WSL 2: `wsl --set-version DISTRIBUTION 2`."
            ) from None
        if platform.system() == "Linux" and not has_nvidia_hardware():
            raise Unavailable(
                f"Linux lists no NVIDIA GPU here, and there is no driver ({DRIVER})"
            ) from None
        remedy = ON_WSL if WSL_DEVICE.exists() else INSTALL
        raise Unavailable(f"NVIDIA's driver cannot be opened ({error})", remedy) from None


def has_nvidia_hardware() -> bool:
    """Whether Linux lists a PCI device of NVIDIA's, or is in WSL, which lists none."""
    vendors = (path / "vendor" for path in PCI_DEVICES.glob("*"))
    listed = any(path.exists() and NVIDIA_PCI_VENDOR in path.read_text() for path in vendors)
    return listed or WSL_DEVICE.exists()


def is_wsl1() -> bool:
    """Whether this is the first version of WSL, whose kernel is Windows'."""
    release = platform.release()
    return "Microsoft" in release and "WSL2" not in release and not WSL_DEVICE.exists()


def find_gpus(driver: ctypes.CDLL) -> list[GPU]:
    """Initialise the driver and describe the GPUs that are new enough.

    Raises:
        Unavailable: the driver fails, has no GPU or is too old, or all GPUs are.
    """
    status = driver.cuInit(0)
    if status and status != ERROR_NO_DEVICE:
        raise Unavailable(
            f"NVIDIA's driver cannot be initialised: {error_text(driver, status)}",
            ON_WSL if WSL_DEVICE.exists() else "Check `nvidia-smi`; reboot after an update.",
        )
    count = ctypes.c_int()
    if status == 0:
        driver.cuDeviceGetCount(ctypes.byref(count))
    if count.value < 1:
        raise no_gpu()
    require_version(driver)
    gpus = [describe_gpu(driver, ordinal) for ordinal in range(count.value)]
    fitting = [gpu for gpu in gpus if gpu.capability >= OLDEST]
    if not fitting:
        found = ", ".join(f"{gpu.name}: {dotted(gpu.capability)}" for gpu in gpus)
        raise Unavailable(
            f"the compute capability of the GPU is too old ({found}); CUDA {MAJOR} needs "
            f"{dotted(OLDEST)}",
            "Use it through Vulkan: `pip install mlc-llm[vulkan]`.",
        )
    return fitting


def no_gpu() -> Unavailable:
    """Why a driver that works has no GPU."""
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        return Unavailable(
            f"{VISIBLE} is {shown(visible)}, and NVIDIA's driver has no GPU to show by it",
            f"Unset {VISIBLE}, or list in it what `nvidia-smi -L` shows.",
        )
    if split := management.split_without_instances():
        return Unavailable(
            f"{', '.join(split)} is split into instances (MIG), and none has been made",
            "Make one, as with `nvidia-smi mig -cgi 0 -C`, or turn MIG off: `nvidia-smi -mig 0`.",
        )
    return Unavailable(
        "NVIDIA's driver finds no GPU",
        "Check `nvidia-smi`; start a container with access to the GPUs (--gpus all).",
    )


def require_version(driver: ctypes.CDLL) -> None:
    """Refuse a driver that is older than the CUDA that TVM is built for."""
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major < MAJOR:
        own = management.driver_version()
        raise Unavailable(
            f"NVIDIA's driver{f' {own}' if own else ''} supports CUDA {major}.{minor}, and CUDA "
            f"{MAJOR} is needed",
            f"{UPDATE}{' In WSL, that is the one on Windows.' if WSL_DEVICE.exists() else ''}",
        )


def describe_gpu(driver: ctypes.CDLL, ordinal: int) -> GPU:
    """Ask the driver about one GPU."""
    device, memory, value = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_int()
    name, identity = ctypes.create_string_buffer(256), ctypes.create_string_buffer(16)
    driver.cuDeviceGet(ctypes.byref(device), ordinal)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = 0
    for attribute in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability = 10 * capability + value.value
    text = name.value.decode("utf-8", "replace")
    known = hasattr(driver, "cuDeviceGetUuid_v2")
    if known and driver.cuDeviceGetUuid_v2(identity, device) == 0:
        # Of a MIG instance, it is the instance's own.
        kind = "MIG" if " MIG " in text else "GPU"
        named = f"{kind}-{uuid.UUID(bytes=identity.raw)}"
    else:
        named = ""
    return GPU(ordinal, text, named, memory.value, capability)


def error_text(driver: ctypes.CDLL, status: int) -> str:
    """The driver's own words for a status."""
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    return f"{(text.value or b'unknown error').decode('utf-8', 'replace')} ({status})"
