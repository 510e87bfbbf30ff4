"""Where a device's memory is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm

_HOST_DEVICE_TYPE = 1  # DLPack's kDLCPU


def on_host(device: tvm.runtime.Device) -> bool:
    """Whether a device's tensors lie in the host's memory, where NumPy can read them."""
    return bool(device.dlpack_device_type() == _HOST_DEVICE_TYPE)
