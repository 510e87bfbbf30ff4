"""How many threads TVM uses, and that they sleep when there is nothing to do."""

from __future__ import annotations

import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")

IDLE_SPINS = 1000
"""How often an idle worker looks for work before it sleeps. TVM's default of 300,000 keeps a core
busy for milliseconds after every kernel; this costs no measurable speed."""


def configure_threads() -> None:
    """Set TVM's environment variables that the user has not set; TVM reads them when it starts.

    ``TVM_NUM_THREADS`` becomes the number of physical cores that this process may use (TVM's own
    default is half of all logical ones), ``TVM_THREAD_POOL_SPIN_COUNT`` becomes
    :data:`IDLE_SPINS`. ``TVM_BIND_THREADS`` is switched off when the process may use only some of
    the CPUs, because TVM binds its threads to the first ones whether it may use them or not.
    """
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", str(IDLE_SPINS))
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("TVM_NUM_THREADS", str(physical_cores()))
    if len(_usable_cpus()) < (os.cpu_count() or 1):
        os.environ.setdefault("TVM_BIND_THREADS", "0")


def physical_cores() -> int:
    """The number of physical cores that this process may use, at least 1.

    Two logical CPUs of one core count once; a container's CPU quota is a limit as well. Where the
    system does not tell which CPUs share a core, each counts as one.
    """
    cores = {_siblings(cpu) for cpu in _usable_cpus()}
    return max(1, min(len(cores), _quota() or len(cores)))


def _usable_cpus() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _siblings(cpu: int) -> str:
    """What is equal for all logical CPUs of one core."""
    try:
        return (_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota() -> int | None:
    """Whole CPUs that the cgroup may use, or None when there is no limit."""
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
