"""The cuda device: NVIDIA GPUs.

This version finds the GPUs and says what is missing to use them; it does not compile for them
yet. The driver is asked through ctypes, by the functions of NVIDIA's driver API, because TVM says
only that there is no device, and not why.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlc_llm.plugin import Adapter, Availability, Device, DeviceCodegen, Unavailable
from mlc_llm.plugin.fingerprint import describe_files, library_files
from mlc_llm.plugin.packages import package_folders, tvm_has_runtime
from mlc_llm.registry.choice import unavailable
from mlc_llm.registry.probing import probe

if TYPE_CHECKING:
    import tvm

CUDA_MAJOR = 13
"""The CUDA version that apache-tvm's wheels are built for."""
NVIDIA_PCI_VENDOR = "0x10de"
PCI_DEVICES = Path("/sys/bus/pci/devices")

# From cuda.h.
NO_DEVICE = 100
COMPUTE_CAPABILITY_MAJOR = 75
COMPUTE_CAPABILITY_MINOR = 76


class CUDADevice(Device):
    """NVIDIA GPUs through CUDA."""

    name = "cuda"
    priority = 300

    def probe(self) -> Availability:
        adapters = find_gpus(open_driver())
        require_cudart()
        require_tvm_runtime()
        found = ", ".join(f"{gpu.name} ({gpu.details['arch']})" for gpu in adapters)
        raise Unavailable(
            f"this version of mlc-llm-cuda finds {found}, but does not compile for it yet",
            "Use the cpu device, or a later version of mlc-llm-cuda.",
        )

    def fingerprint(self) -> str:
        files = [*driver_files(), *cudart_in_wheels()]
        return f"{platform.system()}\n{describe_files(files)}"

    def open(self, index: int) -> tvm.runtime.Device:
        self._refuse()

    def target(self, index: int = 0) -> dict[str, Any]:
        self._refuse()

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise unavailable(self.name, probe(self.name))


def open_driver() -> ctypes.CDLL:
    """Open the driver's library."""
    if platform.system() == "Darwin":
        raise Unavailable("there is no CUDA for macOS")
    library = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        return ctypes.CDLL(library)
    except OSError as error:
        if platform.system() == "Linux" and not has_nvidia_hardware():
            raise Unavailable(
                f"Linux lists no NVIDIA GPU here, and there is no driver ({library})"
            ) from None
        raise Unavailable(
            f"NVIDIA's driver cannot be opened ({error})",
            "Install NVIDIA's driver; start a container with access to the GPUs (--gpus all).",
        ) from None


def has_nvidia_hardware() -> bool:
    """Whether Linux lists a PCI device of NVIDIA's, or stands on WSL, which lists none."""
    vendors = (path / "vendor" for path in PCI_DEVICES.glob("*"))
    listed = any(path.exists() and NVIDIA_PCI_VENDOR in path.read_text() for path in vendors)
    return listed or Path("/dev/dxg").exists()


def find_gpus(driver: ctypes.CDLL) -> list[Adapter]:
    """Initialise the driver and describe its devices."""
    status = driver.cuInit(0)
    if status == NO_DEVICE:
        raise Unavailable(
            "NVIDIA's driver finds no GPU",
            "Check `nvidia-smi` and the variable CUDA_VISIBLE_DEVICES.",
        )
    if status:
        raise Unavailable(
            f"NVIDIA's driver cannot be initialised: {error_text(driver, status)}",
            "Check `nvidia-smi`; reboot if the driver was updated.",
        )
    count, version = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    driver.cuDriverGetVersion(ctypes.byref(version))
    if count.value < 1:
        raise Unavailable("NVIDIA's driver finds no GPU", "Check `nvidia-smi`.")
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major < CUDA_MAJOR:
        raise Unavailable(
            f"NVIDIA's driver supports CUDA {major}.{minor}, and CUDA {CUDA_MAJOR} is needed",
            "Update the driver to version 580 or newer.",
        )
    return [describe_gpu(driver, ordinal) for ordinal in range(count.value)]


def describe_gpu(driver: ctypes.CDLL, ordinal: int) -> Adapter:
    """Name, memory and compute capability of one device."""
    device, memory, value = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), ordinal)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = ""
    for attribute in (COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR):
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability += str(value.value)
    text = name.value.decode("utf-8", "replace")
    return Adapter(text, memory.value, {"arch": f"sm_{capability}"})


def error_text(driver: ctypes.CDLL, status: int) -> str:
    """The driver's own words for a status."""
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    return f"{(text.value or b'unknown error').decode('utf-8', 'replace')} ({status})"


def driver_files() -> Iterator[Path]:
    """Files by which a change of the driver, or of the GPUs that are there, is noticed."""
    if platform.system() == "Windows":
        system = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
        yield from (system / "nvcuda.dll", system / cudart_name())
        return
    yield Path("/proc/driver/nvidia/version")
    yield from Path("/dev").glob("nvidia*")
    yield Path("/dev/dxg")
    yield from (path / "vendor" for path in PCI_DEVICES.glob("*"))
    yield from library_files("libcuda.so.1", cudart_name())


def cudart_name() -> str:
    """The file name of CUDA's runtime library."""
    windows = platform.system() == "Windows"
    return f"cudart64_{CUDA_MAJOR}.dll" if windows else f"libcudart.so.{CUDA_MAJOR}"


def cudart_in_wheels() -> Iterator[Path]:
    """CUDA's runtime library where NVIDIA's wheel installs it."""
    for folder in package_folders("nvidia"):
        yield from folder.glob(f"cu{CUDA_MAJOR}/*/**/{cudart_name()}")


def require_cudart() -> None:
    """Check that CUDA's runtime library can be found, on the system or in its wheel."""
    if any(cudart_in_wheels()):
        return
    try:
        ctypes.CDLL(cudart_name())
    except OSError:
        raise Unavailable(
            f"CUDA's runtime library {cudart_name()} cannot be found",
            "Install it with `pip install nvidia-cuda-runtime`.",
        ) from None


def require_tvm_runtime() -> None:
    """Check that the installed TVM has its CUDA runtime; TVM is not imported."""
    if not tvm_has_runtime("cuda"):
        raise Unavailable(
            f"the installed apache-tvm has no CUDA runtime for {platform.platform(terse=True)}",
            "Use Linux or Windows, for which apache-tvm's wheels have it.",
        )


DEVICE = CUDADevice()
