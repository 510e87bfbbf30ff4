"""How many threads TVM uses, and that they sleep when there is nothing to do.

The number is the first of these that is given: the model's own setting (``num_threads``),
``TVM_NUM_THREADS``, ``OMP_NUM_THREADS``, and the number of physical cores.

TVM has a pool of workers for each thread that computes; the computing thread is one of them. So
models, each in its engine thread, may have different numbers.
"""

from __future__ import annotations

import itertools
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from mlc_llm.runtime.cgroup import own_groups

logger = logging.getLogger("mlc_llm")

SETTING = "num_threads"
VARIABLES = ("TVM_NUM_THREADS", "OMP_NUM_THREADS")
"""What TVM reads when a pool starts; the first one that is set counts."""

_SHARE_ALL_CPUS = -3
"""``ThreadGroup::kSpecifyThreadShareAllCore`` of TVM's ``threading_backend.h``."""

_CPUS = Path("/sys/devices/system/cpu")

IDLE_SPINS = 1000
"""How often an idle worker looks for work before it sleeps. TVM's default of 300,000 keeps a core
busy for milliseconds after every kernel; this costs no measurable speed."""


def configure_threads() -> None:
    """Set TVM's environment variables that the user has not set; TVM reads them when it starts.

    ``TVM_NUM_THREADS`` becomes the number of physical cores that this process may use (TVM's own
    default is half of all logical ones), ``TVM_THREAD_POOL_SPIN_COUNT`` becomes
    :data:`IDLE_SPINS`. ``TVM_BIND_THREADS`` is switched off: TVM binds a pool to the first logical
    CPUs, which may be few cores, forbidden ones, or those of another model or process.
    """
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", str(IDLE_SPINS))
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    if not any(name in os.environ for name in VARIABLES):
        os.environ["TVM_NUM_THREADS"] = str(physical_cores())


@dataclass(frozen=True)
class ThreadCount:
    """A number of threads and where it comes from.

    Args:
        count: the number.
        origin: :data:`SETTING`, one of :data:`VARIABLES`, or nothing for the physical cores.
    """

    count: int
    origin: str = ""


def thread_count(setting: int | None = None) -> ThreadCount:
    """The number of threads that is in force for a model.

    Args:
        setting: the model's own; None where it has none.
    """
    if setting is not None:
        return ThreadCount(setting, SETTING)
    for name in VARIABLES:
        if (text := os.environ.get(name)) is not None:
            # TVM takes one thread where the text is not a number.
            return ThreadCount(int(text) if text.isdecimal() and int(text) else 1, name)
    return ThreadCount(physical_cores())


def use_threads(count: int | None) -> None:
    """Set the number of threads that TVM uses in the calling thread.

    TVM's pool is made when a thread first computes. One that was made before can only be reduced.

    Args:
        count: how many, the calling thread included; None leaves it to the environment.
    """
    if count is None:
        return
    from tvm import get_global_func

    cpus = sorted(_usable_cpus())
    if count > len(cpus):
        logger.warning(
            "num_threads is %d, and there are %d CPUs to use: more threads than CPUs are slower.",
            count,
            len(cpus),
        )
    # The pool has as many threads as CPUs are named; unless the user has TVM bind threads, it
    # makes nothing else of them.
    named = [str(cpu) for cpu in itertools.islice(itertools.cycle(cpus), count)]
    get_global_func("runtime.config_threadpool")(_SHARE_ALL_CPUS, count, named)


def physical_cores() -> int:
    """The number of physical cores that this process may use, at least 1.

    Two logical CPUs of one core count once; a container's CPU quota is a limit as well. Where the
    system does not tell which CPUs share a core, each counts as one.
    """
    cores = {_siblings(cpu) for cpu in _usable_cpus()}
    quotas = [quota for group in own_groups() if (quota := _quota(group)) is not None]
    return max(1, min([len(cores), *quotas]))


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


def _quota(group: Path) -> int | None:
    """Whole CPUs that a cgroup may use, or None where it has no limit."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
