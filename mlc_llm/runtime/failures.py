"""What the system, TVM and drivers raise while a model takes its memory, as errors with numbers."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mlc_llm.errors import DeviceError
from mlc_llm.host_memory import address_space_left, available_memory, memory_limit
from mlc_llm.runtime.memory import MemoryEstimate, readable

_SHORTAGES = (
    *("bad_alloc", "cannot allocate memory", "out of memory", "outofmemory", "not enough memory"),
    *("failed to map segment", "static tls block", "can't start new thread"),
)
"""In lower case, parts of the messages of C++, the C library, the loader, drivers and Python."""

_LEAST_ROOM, _LEAST_ROOM_OF_TVM = 32 << 20, 160 << 20
"""Bytes of address space beside a model's own: threads and the C library's tables, and what TVM's
runtime takes when it is imported. With less the C library ends the process."""


def require_room(device: str, need: MemoryEstimate) -> None:
    """Refuse to begin where a limit of the address space leaves no room for TVM and its threads.

    Args:
        device: the device, as in ``cpu:0``.
        need: what the model takes.

    Raises:
        DeviceError: there is too little room.
    """
    left = address_space_left()
    room = _LEAST_ROOM if "tvm" in sys.modules else _LEAST_ROOM_OF_TVM
    if left is not None and left < need.total + room:
        raise DeviceError(
            _shortage(device, need, f"TVM takes {readable(room)} at least"), code="memory-too-small"
        )


def is_shortage(error: BaseException) -> bool:
    """Whether an exception says that there is no memory."""
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EAGAIN)
    ):
        return True
    text = str(error).lower()
    return any(words in text for words in _SHORTAGES)


@contextmanager
def as_device_errors(device: str, need: MemoryEstimate) -> Iterator[None]:
    """Raise what fails in the ``with`` block as an error that names the device and the memory.

    Args:
        device: the device, as in ``cpu:0``.
        need: what the block takes of its memory, mostly.

    Raises:
        DeviceError: there was no memory, or TVM or the driver failed. All other errors go through.
    """
    try:
        yield
    except (OSError, RuntimeError, MemoryError, ImportError) as error:
        if is_shortage(error):
            reason = str(error) or "out of memory"
            raise DeviceError(_shortage(device, need, reason), code="memory-too-small") from error
        # TVM's own errors are RuntimeErrors, and ours are not.
        if isinstance(error, RuntimeError):
            raise DeviceError(
                f"The device {device} failed while the model took its memory "
                f"({readable(need.total)}): {error}. Load the model again; if that fails, close "
                "other programs that use the device, or restart the machine.",
                code="device-failed",
            ) from error
        raise


def _shortage(device: str, need: MemoryEstimate, reason: str) -> str:
    left, limit = available_memory(), memory_limit()
    host = "" if left is None else f" The host has {readable(left)} left for this process"
    if host and limit is not None:
        host += f", whose address space is limited to {readable(limit)} (ulimit -v)"
    return (
        f"There is not enough memory for the model on {device}: {reason}. "
        f"It takes about {readable(need.total)} (weights {readable(need.weights)}, KV cache "
        f"{readable(need.kv_cache)}, workspace {readable(need.workspace)}), beside TVM itself."
        f"{host}{'.' if host else ''} Raise the limit, close other programs, or set a smaller "
        "ChatConfig(context_window_size=...)."
    )
