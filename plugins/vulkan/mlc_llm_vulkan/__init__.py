"""The vulkan device: GPUs of any vendor.

This version finds the GPUs and says what is missing to use them; it does not compile for them
yet. The Vulkan loader is asked through ctypes; numbers and layouts below are those of vulkan.h.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Adapter, Availability, Device, DeviceCodegen
from mlc_llm.plugin.choice import sentence
from mlc_llm.plugin.fingerprint import describe_files, library_files
from mlc_llm.plugin.probing import probe

if TYPE_CHECKING:
    import tvm

STRUCTURE_TYPE_INSTANCE_CREATE_INFO = 1
ERROR_INCOMPATIBLE_DRIVER = -9
DEVICE_TYPE_CPU = 4
PROPERTIES_BYTES = 1024
"""Enough for ``VkPhysicalDeviceProperties``, of 824 bytes."""

ICD_FOLDERS = ("/etc", "/usr/share", "/usr/local/share", "/usr/local/etc", "~/.local/share")
"""Where the loader looks for ``vulkan/icd.d``, which lists the drivers."""

DRIVER_REMEDY = (
    "Install your GPU's Vulkan driver (on Debian and Ubuntu, for AMD and Intel: apt-get install "
    "mesa-vulkan-drivers libvulkan1)."
)


class InstanceCreateInfo(ctypes.Structure):
    """``VkInstanceCreateInfo``."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


class PropertiesHead(ctypes.Structure):
    """The first fields of ``VkPhysicalDeviceProperties``."""

    _fields_ = (
        ("api_version", ctypes.c_uint32),
        ("driver_version", ctypes.c_uint32),
        ("vendor", ctypes.c_uint32),
        ("device", ctypes.c_uint32),
        ("type", ctypes.c_int),
        ("name", ctypes.c_char * 256),
    )


class Unavailable(Exception):
    """Why the GPUs cannot be used, and what to do about it (empty: nothing)."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.availability = Availability(reason=reason, remedy=remedy)


class VulkanDevice(Device):
    """GPUs through Vulkan."""

    name = "vulkan"
    priority = 100

    def probe(self) -> Availability:
        try:
            found = ", ".join(gpu.name for gpu in find_gpus(open_loader()))
            require_tvm_runtime(found)
        except Unavailable as error:
            return error.availability
        return Availability(
            reason=f"this version of mlc-llm-vulkan finds {found}, but does not compile for it yet",
            remedy="Use the cpu device, or a later version of mlc-llm-vulkan.",
        )

    def fingerprint(self) -> str:
        return f"{platform.system()}\n{describe_files(driver_files())}"

    def open(self, index: int) -> tvm.runtime.Device:
        self._refuse()

    def target(self, index: int = 0) -> dict[str, Any]:
        self._refuse()

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        self._refuse()

    def _refuse(self) -> NoReturn:
        answer = probe(self.name)
        why = sentence(answer.reason, answer.remedy)
        raise DeviceError(f"The device 'vulkan' is not available. {why}")


def open_loader() -> ctypes.CDLL:
    """Open the Vulkan loader."""
    system = platform.system()
    if system == "Darwin":
        raise Unavailable("macOS has no Vulkan of its own; its GPUs are the metal device's")
    library = "vulkan-1.dll" if system == "Windows" else "libvulkan.so.1"
    try:
        return ctypes.CDLL(library)
    except OSError as error:
        if system == "Linux" and not has_gpu():
            raise Unavailable(
                f"Linux has no GPU here, and there is no Vulkan loader ({library})"
            ) from None
        raise Unavailable(f"the Vulkan loader cannot be opened ({error})", DRIVER_REMEDY) from None


def has_gpu() -> bool:
    """Whether Linux has a device file of a GPU: a render node, NVIDIA's, or WSL's."""
    device_files = Path("/dev")
    return any(
        any(device_files.glob(pattern)) for pattern in ("dri/renderD*", "nvidia[0-9]*", "dxg")
    )


def driver_files() -> Iterator[Path]:
    """Files by which a change of the loader, its drivers, or the GPUs that are there is noticed."""
    if platform.system() == "Windows":
        yield Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "vulkan-1.dll"
        return
    yield from Path("/dev").glob("nvidia*")
    yield from Path("/dev/dri").glob("*")
    yield from (Path("/dev/dxg"), Path("/proc/driver/nvidia/version"))
    for folder in ICD_FOLDERS:
        yield from Path(folder).expanduser().glob("vulkan/icd.d/*.json")
    yield from library_files("libvulkan.so.1")


def find_gpus(loader: ctypes.CDLL) -> list[Adapter]:
    """Create an instance and describe its physical devices, software ones left out."""
    info = InstanceCreateInfo(type=STRUCTURE_TYPE_INSTANCE_CREATE_INFO)
    instance = ctypes.c_void_p()
    status = loader.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance))
    if status == ERROR_INCOMPATIBLE_DRIVER:
        raise Unavailable("there is a Vulkan loader, but no driver for it", DRIVER_REMEDY)
    if status:
        raise Unavailable(f"Vulkan cannot be initialised (VkResult {status})", DRIVER_REMEDY)
    try:
        count = ctypes.c_uint32()
        loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        handles = (ctypes.c_void_p * count.value)()
        loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        devices = [properties(loader, handle) for handle in handles[: count.value]]
    finally:
        loader.vkDestroyInstance(instance, None)
    gpus = [device for device in devices if device.type != DEVICE_TYPE_CPU]
    if not gpus:
        software = ", ".join(text(device) for device in devices)
        said = f" but the software driver {software}" if software else ""
        raise Unavailable(f"Vulkan finds no GPU{said}", DRIVER_REMEDY if has_gpu() else "")
    return [Adapter(text(gpu)) for gpu in gpus]


def properties(loader: ctypes.CDLL, handle: int | None) -> PropertiesHead:
    """What the driver says of a physical device."""
    buffer = ctypes.create_string_buffer(PROPERTIES_BYTES)
    loader.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), buffer)
    return PropertiesHead.from_buffer_copy(buffer)


def text(device: PropertiesHead) -> str:
    return bytes(device.name).decode("utf-8", "replace")


def require_tvm_runtime(found: str) -> None:
    """Check that the installed TVM has a Vulkan runtime; TVM is not imported."""
    spec = importlib.util.find_spec("tvm")
    folders = (spec.submodule_search_locations or []) if spec else []
    if not any(any(Path(folder).glob("lib/*tvm_runtime_vulkan.*")) for folder in folders):
        raise Unavailable(
            f"Vulkan finds {found}, but apache-tvm's wheels have no Vulkan runtime, and this "
            "version of mlc-llm-vulkan does not bring one yet",
            "Use the cpu device, or a later version of mlc-llm-vulkan.",
        )


DEVICE = VulkanDevice()
