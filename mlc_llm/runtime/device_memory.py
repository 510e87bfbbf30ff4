"""Where a device's memory is, and memory there for the weights of a model.

Decoding reads every weight once for each token. So the host's memory is asked for in huge pages,
where the system has them: the CPU then translates far fewer addresses, and loading causes far fewer
page faults.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tvm

SLAB_BYTES = 1 << 28
"""What is asked of the system at a time, unless a tensor is larger. What is never written to takes
no memory."""

_HOST_DEVICE_TYPE = 1  # DLPack's kDLCPU

ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector. TVM asks it of the tensors of others."""


def on_host(device: tvm.runtime.Device) -> bool:
    """Whether a device's tensors lie in the host's memory, where NumPy can read them."""
    return bool(device.dlpack_device_type() == _HOST_DEVICE_TYPE)


class WeightMemory(Protocol):
    """Where weights are put."""

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        """A tensor that nothing was written to yet.

        Args:
            shape: its shape.
            dtype: its dtype, one of NumPy's.
        """

    def keep(self, array: npt.NDArray[Any]) -> Any:
        """A copy of an array, as a tensor."""

    def lend(self, array: npt.NDArray[Any]) -> Any:
        """A tensor to be read from as long as the array lives; a view of it where that can be."""


def weight_memory(device: tvm.runtime.Device) -> WeightMemory:
    """The memory of a device."""
    return HostMemory() if on_host(device) else DeviceMemory(device)


class HostMemory:
    """The host's: tensors out of large slabs.

    A slab goes back to the system with the last of its tensors.
    """

    def __init__(self) -> None:
        self._slab = np.empty(0, np.uint8)
        self._used = 0

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        from tvm.runtime import from_dlpack

        kind = np.dtype(dtype)
        place = self._take(prod(shape) * kind.itemsize)
        return from_dlpack(place.view(kind).reshape(tuple(shape)))

    def keep(self, array: npt.NDArray[Any]) -> Any:
        return self.empty(array.shape, str(array.dtype)).copyfrom(array)

    def lend(self, array: npt.NDArray[Any]) -> Any:
        from tvm.runtime import from_dlpack

        if array.ctypes.data % ALIGNMENT or not array.size:
            return self.keep(array)
        # DLPack does not export what is read-only; kernels do not write to their inputs.
        memory = (ctypes.c_uint8 * array.nbytes).from_address(array.ctypes.data)
        writable = np.ctypeslib.as_array(memory)
        return from_dlpack(writable.view(array.dtype).reshape(array.shape))

    def _take(self, size: int) -> npt.NDArray[np.uint8]:
        if self._used + size > self._slab.size:
            self._slab, self._used = _room(size), 0
        begin = self._used
        self._used = begin + -(-size // ALIGNMENT) * ALIGNMENT
        return self._slab[begin : begin + size]


class DeviceMemory:
    """A device's own, of which each tensor is a piece.

    Args:
        device: the device.
    """

    def __init__(self, device: tvm.runtime.Device) -> None:
        self._device = device

    def empty(self, shape: Sequence[int], dtype: str) -> Any:
        from tvm.runtime import empty

        return empty(tuple(shape), dtype, self._device)

    def keep(self, array: npt.NDArray[Any]) -> Any:
        return self.empty(array.shape, str(array.dtype)).copyfrom(array)

    lend = keep


def _room(size: int) -> npt.NDArray[np.uint8]:
    """A slab for something of that size, and no larger than that where memory is short."""
    if size < SLAB_BYTES:
        with contextlib.suppress(OSError):
            return _slab(SLAB_BYTES)
    return _slab(size)


def _slab(size: int) -> npt.NDArray[np.uint8]:
    """Fresh memory, which lives as long as a view of it."""
    if sys.platform == "win32":
        return np.frombuffer(mmap.mmap(-1, size), np.uint8)
    # Shared memory, Python's default, has huge pages on few systems.
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # A kernel may be built without huge pages.
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.uint8)
