"""A GPU that has failed for good, as after a kernel that read where there is no memory.

CUDA then answers every call of the process with the same error, even one that frees memory. TVM
frees memory in destructors, where an error ends the process. So what the GPU holds is never freed,
and the process can go on with other devices.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlc_llm.errors import DeviceError
from mlc_llm.runtime.device_memory import on_host

if TYPE_CHECKING:
    import tvm

_holders: weakref.WeakKeyDictionary[Any, tvm.runtime.Device] = weakref.WeakKeyDictionary()
"""What holds memory of GPUs, and of which."""


def holds_memory_of(holder: Any, device: tvm.runtime.Device) -> None:
    """Remember that something holds memory of a device."""
    if not on_host(device):
        _holders[holder] = device


def loss(device: tvm.runtime.Device, error: Exception) -> DeviceError | None:
    """Our error where something failed since a device is lost, whose memory is then kept.

    Args:
        device: the device that was used.
        error: what was raised.
    """
    if isinstance(error, DeviceError) or on_host(device) or not _is_lost(device):
        return None
    # The error holds the frames that it came through, and with them their tensors.
    _keep(error, *(one for one, where in _holders.items() if where == device))
    return DeviceError(
        f"The device {device} has failed, and can do nothing more in this process: {error}. "
        "Start the program again. If it fails again, check the GPU with its own tool "
        "(nvidia-smi), update its driver, and report this message.",
        code="device-lost",
    )


@contextmanager
def losses_reported(device: tvm.runtime.Device) -> Iterator[None]:
    """Raise :func:`loss` for what fails in the ``with`` block.

    Raises:
        DeviceError: the device is lost. All other errors go through.
    """
    try:
        yield
    except Exception as error:
        if (lost := loss(device, error)) is None:
            raise
        raise lost from error


def _is_lost(device: tvm.runtime.Device) -> bool:
    """Whether even waiting for it fails."""
    try:
        device.sync()
    except RuntimeError:
        return True
    return False


def _keep(*objects: object) -> None:
    """Never free these objects, not even when Python ends."""
    for one in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(one))
