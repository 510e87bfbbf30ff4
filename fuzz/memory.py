"""How much memory an input took at its peak.

Linux keeps the peak of a process's resident memory, and lets the process itself set it back. Where
it cannot be set back, an input is seen only when it takes more than any before it.
"""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_PEAK = re.compile(rb"VmHWM:\s+(\d+) kB")


def peak_bytes() -> int:
    """The most memory that this process had since :func:`reset_peak`, or since it started."""
    with contextlib.suppress(OSError):
        if found := _PEAK.search(_STATUS.read_bytes()):
            return int(found[1]) << 10
    import resource

    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak() -> None:
    """Let the peak be what the process has now."""
    with contextlib.suppress(OSError):
        _RESET.write_bytes(b"5")
