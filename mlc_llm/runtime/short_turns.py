"""Short turns on a busy CPU, for threads that wait for each other.

TVM's threads meet at the end of every kernel, a few hundred times a token. The first ones give up
their CPUs until the last one arrives. If another program wants such a CPU, Linux lets it run for
its whole slice: milliseconds, after a kernel of microseconds. So two programs in the background
could make a model 70 times as slow. A thread with a short slice of its own is back soon.

Linux has slices for single threads since version 6.12 (``sched_setattr(2)``, ``sched_runtime``);
older ones take no notice.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

SLICE_NS = 100_000
"""The shortest slice that Linux gives."""

_SYSTEM_CALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""Numbers of ``sched_setattr`` and ``sched_getattr``, which older C libraries do not have."""

_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""``struct sched_attr``: size, policy, flags, nice, priority, runtime, deadline, period."""

_NORMAL = 0
"""The policy ``SCHED_NORMAL``, which threads have unless they are given another."""


def take_short_turns() -> None:
    """Give the calling thread, and those that it starts from now on, short slices.

    Its priority stays, and its share of a busy CPU. Nothing happens where the system has no such
    slices, or where the thread has another policy than the usual one.
    """
    if (found := _attributes()) is None:
        return
    size, policy, flags, nice, priority, _, deadline, period = found
    if policy == _NORMAL:
        changed = (size, policy, flags, nice, priority, SLICE_NS, deadline, period)
        set_number, _ = _SYSTEM_CALLS[platform.machine()]
        ctypes.CDLL(None).syscall(set_number, 0, _ATTRIBUTES.pack(*changed), 0)


def slice_ns() -> int | None:
    """The calling thread's slice in nanoseconds; None or 0 where the system does not tell."""
    found = _attributes()
    return None if found is None else int(found[5])


def _attributes() -> tuple[int, ...] | None:
    """The calling thread's ``sched_attr``, or None where there is no such call."""
    if sys.platform != "linux" or platform.machine() not in _SYSTEM_CALLS:
        return None
    _, get_number = _SYSTEM_CALLS[platform.machine()]
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    if ctypes.CDLL(None).syscall(get_number, 0, buffer, _ATTRIBUTES.size, 0) != 0:
        return None
    return _ATTRIBUTES.unpack(buffer.raw)
