"""What the system's Vulkan loader says, asked through ctypes.

wgpu-native says which adapters it can use, but neither why there are none nor how much memory they
have; the loader does. Numbers and layouts below are those of vulkan.h.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlc_llm.plugin import Unavailable

STRUCTURE_TYPE_INSTANCE_CREATE_INFO = 1
ERROR_INCOMPATIBLE_DRIVER = -9
MEMORY_HEAP_DEVICE_LOCAL = 1
PROPERTIES_BYTES = 1024
"""Enough for ``VkPhysicalDeviceProperties``, of 824 bytes."""

OLDEST_VERSION = (1, 1)
"""The Vulkan version that wgpu-native needs for compute shaders with storage buffers."""

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


class MemoryHeap(ctypes.Structure):
    """``VkMemoryHeap``."""

    _fields_ = (("size", ctypes.c_uint64), ("flags", ctypes.c_uint32))


class MemoryProperties(ctypes.Structure):
    """``VkPhysicalDeviceMemoryProperties``."""

    _fields_ = (
        ("type_count", ctypes.c_uint32),
        ("types", ctypes.c_uint32 * 64),
        ("heap_count", ctypes.c_uint32),
        ("heaps", MemoryHeap * 16),
    )


@dataclass(frozen=True)
class PhysicalDevice:
    """A device that a Vulkan driver brings.

    Args:
        name: what the driver calls it.
        vendor: the vendor's number.
        device: the vendor's number for it.
        version: the Vulkan version that it supports: major, minor and patch.
        memory: bytes of its largest heap of memory of its own, or None when it has none.
    """

    name: str
    vendor: int
    device: int
    version: tuple[int, int, int]
    memory: int | None


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


def physical_devices(loader: ctypes.CDLL) -> list[PhysicalDevice]:
    """Create an instance and describe its physical devices; there is at least one."""
    info = InstanceCreateInfo(type=STRUCTURE_TYPE_INSTANCE_CREATE_INFO)
    instance = ctypes.c_void_p()
    status = loader.vkCreateInstance(ctypes.byref(info), None, ctypes.byref(instance))
    if status == ERROR_INCOMPATIBLE_DRIVER:
        raise Unavailable("there is a Vulkan loader, but no driver for it", _remedy())
    if status:
        raise Unavailable(f"Vulkan cannot be initialised (VkResult {status})", DRIVER_REMEDY)
    try:
        count = ctypes.c_uint32()
        loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
        handles = (ctypes.c_void_p * count.value)()
        loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
        devices = [_describe(loader, handle) for handle in handles[: count.value]]
    finally:
        loader.vkDestroyInstance(instance, None)
    if not devices:
        raise Unavailable("Vulkan's drivers find no device", _remedy())
    return devices


def require_version(devices: Sequence[PhysicalDevice]) -> None:
    """Refuse where every device's driver is too old."""
    if all(device.version[:2] < OLDEST_VERSION for device in devices):
        found = ", ".join(f"{device.name}: {dotted(device.version)}" for device in devices)
        raise Unavailable(
            f"Vulkan {dotted(OLDEST_VERSION)} is needed, and the drivers are older ({found})",
            "Update the GPU's driver.",
        )


def dotted(version: Sequence[int]) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


def _remedy() -> str:
    """What to install; nothing on a Linux that has no GPU."""
    return DRIVER_REMEDY if platform.system() != "Linux" or has_gpu() else ""


def _describe(loader: ctypes.CDLL, handle: int | None) -> PhysicalDevice:
    buffer = ctypes.create_string_buffer(PROPERTIES_BYTES)
    loader.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), buffer)
    head = PropertiesHead.from_buffer_copy(buffer)
    memory = MemoryProperties()
    loader.vkGetPhysicalDeviceMemoryProperties(ctypes.c_void_p(handle), ctypes.byref(memory))
    own = [h.size for h in memory.heaps[: memory.heap_count] if h.flags & MEMORY_HEAP_DEVICE_LOCAL]
    word = head.api_version
    return PhysicalDevice(
        name=bytes(head.name).decode("utf-8", "replace"),
        vendor=head.vendor,
        device=head.device,
        version=(word >> 22 & 0x7F, word >> 12 & 0x3FF, word & 0xFFF),
        memory=max(own, default=None),
    )
