"""What code is compiled for: an adapter's limits, rounded down to a few classes.

Few classes, so that one library serves many machines. A class is never above what the adapter
allows, and the lowest is what every Vulkan driver must allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import LibraryRecord
from mlc_llm_vulkan.adapters import NativeAdapter

THREADS = (128, 256)
"""Threads of a workgroup. Kernels gain nothing from more."""
SHARED_MEMORY = (16384, 32768)
"""Bytes that the threads of a workgroup share."""
VULKAN_DEVICE_TYPE = 7
"""DLPack's kDLVulkan: WGSL kernels that run on ``tvm.device("vulkan")``."""
FLOAT16 = "float16"
"""The target's key that lets kernels compute in float16."""


def target_of(adapter: NativeAdapter) -> dict[str, Any]:
    """The TVM target for an adapter, as a JSON object.

    Raises:
        DeviceError: the adapter allows less than Vulkan demands of every driver.
    """
    limits = adapter.limits
    return {
        "kind": "webgpu",
        "keys": ["webgpu", "gpu", *([FLOAT16] if adapter.float16 else [])],
        "target_device_type": VULKAN_DEVICE_TYPE,
        "max_num_threads": _class(adapter, "threads of a workgroup", limits.threads, THREADS),
        "max_shared_memory_per_block": _class(
            adapter, "bytes of shared memory", limits.shared_memory, SHARED_MEMORY
        ),
    }


def mismatch(record: LibraryRecord, target: Mapping[str, Any]) -> str | None:
    """Why a library cannot run on the adapter of a target, or None when it can.

    Args:
        record: the library's record.
        target: the adapter's target.
    """
    for key, unit in (
        ("max_num_threads", "threads in a workgroup"),
        ("max_shared_memory_per_block", "bytes of memory that a workgroup shares"),
    ):
        needed, allowed = record.target.get(key, 0), target[key]
        if needed > allowed:
            return f"it needs {needed} {unit}, and this adapter takes libraries of up to {allowed}"
    return None


def _class(adapter: NativeAdapter, what: str, limit: int, classes: tuple[int, ...]) -> int:
    fitting = [size for size in classes if size <= limit]
    if not fitting:
        raise DeviceError(
            f"The adapter {adapter.name} allows {limit} {what}, and {min(classes)} are needed, as "
            "Vulkan demands of every driver. Update the driver."
        )
    return max(fitting)
