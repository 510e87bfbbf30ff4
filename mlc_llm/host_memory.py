"""How much memory the host has, and how much of it is left."""

from __future__ import annotations

import os
from pathlib import Path

from mlc_llm.cgroup import own_groups

_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")


def available_memory() -> int | None:
    """Bytes of the host's memory that can still be used, or None when that is not known.

    On Linux what the kernel calls available, or what the cgroup or the process's limit of its
    address space (``ulimit -v``) still allows if that is less; elsewhere all physical memory.
    """
    left = [_meminfo(), *map(_left, own_groups()), address_space_left()]
    return min((size for size in left if size is not None), default=_physical())


def total_memory() -> int | None:
    """Bytes of memory that this process can have at most, or None when that is not known.

    All physical memory, or what the cgroups or the limit of the address space allow if that is
    less. Unlike :func:`available_memory` it does not change with what else is running.
    """
    allowed = [_physical(), *map(_group_limit, own_groups()), memory_limit()]
    return min((size for size in allowed if size is not None), default=None)


def memory_limit() -> int | None:
    """Bytes of address space that this process may have (``ulimit -v``), or None without limit."""
    try:
        import resource
    except ImportError:
        return None  # Windows has none.
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def address_space_left() -> int | None:
    """What a limit of the address space still allows, or None where there is no limit."""
    limit = memory_limit()
    try:
        pages = int(_STATM.read_text().split()[0])
        return None if limit is None else max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):
        return limit


def _physical() -> int | None:
    """Bytes of the host's memory, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None  # Windows has no sysconf.


def _meminfo() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group_limit(group: Path) -> int | None:
    """What a cgroup allows in all, or None where it has no limit."""
    try:
        return int((group / "memory.max").read_text())
    except (OSError, ValueError):
        return None


def _left(group: Path) -> int | None:
    """What a cgroup still allows, or None where it has no limit."""
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Cached files count as used, and are given back when memory is asked for.
        return max(0, limit - used + int(stat["inactive_file"]) + int(stat["active_file"]))
    except (OSError, ValueError, KeyError):
        return None
