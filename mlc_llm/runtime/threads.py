"""How many threads TVM uses, and that they sleep when there is nothing to do.

The number is the first of these that is given: the model's own setting (``num_threads``),
``TVM_NUM_THREADS``, ``OMP_NUM_THREADS``, and the number of physical cores. It is never more than
the CPUs that this process may use, or than the system lets it start.

TVM has a pool of workers for each thread that computes; the computing thread is one of them. So
models, each in its engine thread, may have different numbers.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlc_llm.cgroup import own_groups
from mlc_llm.runtime.short_turns import take_short_turns

logger = logging.getLogger("mlc_llm")

SETTING = "num_threads"
VARIABLES = ("TVM_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables for the number, the first one first; TVM reads the same."""

_SHARE_ALL_CPUS = -3
"""``ThreadGroup::kSpecifyThreadShareAllCore`` of TVM's ``threading_backend.h``."""

_CPUS = Path("/sys/devices/system/cpu")

IDLE_SPINS = 1000
"""How often an idle worker looks for work before it sleeps. TVM's default of 300,000 keeps a core
busy for milliseconds after every kernel; this costs no measurable speed."""

_POOL_VARIABLES = {"TVM_THREAD_POOL_SPIN_COUNT": str(IDLE_SPINS), "TVM_BIND_THREADS": "0"}
"""What TVM reads from the environment alone, while the workers of a pool start: how often they
spin, and whether they are bound to CPUs. It would bind a pool to the first ones, which may be few
cores, forbidden ones, or those of another model or process."""

_NUMBER = re.compile(r"\s*0*([1-9][0-9]{0,8})\s*(,.*)?")
"""A number of threads in the environment; OpenMP's has more of them, for loops within loops."""

_environment = threading.Lock()


@dataclass(frozen=True)
class ThreadCount:
    """A number of threads and where it comes from.

    Args:
        count: how many are used.
        origin: :data:`SETTING`, one of :data:`VARIABLES`, or nothing for the physical cores.
        asked: what is asked for there, as it is written.
    """

    count: int
    origin: str = ""
    asked: str = ""

    @property
    def asked_number(self) -> int | None:
        """What is asked for as a number, or None where it is none."""
        number = _NUMBER.fullmatch(self.asked)
        return int(number[1]) if number else None


def thread_count(setting: int | None = None) -> ThreadCount:
    """The number of threads that is in force for a model.

    Args:
        setting: the model's own; None where it has none.
    """
    if setting is not None:
        return _limited(SETTING, str(setting))
    for name in VARIABLES:
        if (text := os.environ.get(name)) is not None:
            return _limited(name, text)
    return ThreadCount(physical_cores())


def _limited(origin: str, asked: str) -> ThreadCount:
    """As many as there are CPUs at most; one where no number is asked for, as TVM takes it."""
    asked_number = ThreadCount(1, origin, asked).asked_number or 1
    return ThreadCount(min(asked_number, len(_usable_cpus())), origin, asked)


def use_threads(setting: int | None) -> None:
    """Set the number of threads that TVM uses in the calling thread, and start them.

    TVM's pool is made when a thread first computes. One that was made before can only be reduced.

    Args:
        setting: the model's own number, the calling thread included; None where it has none.
    """
    from tvm import base, get_global_func

    wanted = thread_count(setting)
    _warn_of_fewer(wanted)
    count = _startable(wanted.count)
    if count < wanted.count:
        logger.warning(
            "The system starts no more than %d of %d threads: the model runs with %d. Its limits "
            "are shown by `ulimit -a`.",
            count,
            wanted.count,
            count,
        )
    # The pool has as many threads as CPUs are named; unless the user has TVM bind threads, it
    # makes nothing else of them.
    named = [str(cpu) for cpu in sorted(_usable_cpus())[:count]]
    take_short_turns()  # the workers, which this thread starts, do as it does
    runtime = base._LOADED_LIBS["tvm_runtime"]
    with _pool_variables():
        get_global_func("runtime.config_threadpool")(_SHARE_ALL_CPUS, count, named)
        # Each worker reads them when it begins. After they have met at a barrier, all have begun.
        barrier = ctypes.cast(runtime.TVMBackendParallelBarrier, ctypes.c_void_p)
        runtime.TVMBackendParallelLaunch(barrier, None, 0)


@contextlib.contextmanager
def _pool_variables() -> Iterator[None]:
    """Set :data:`_POOL_VARIABLES` that the user has not set, for as long as it takes.

    They are the process's, and what it starts meanwhile inherits them: so only for the moment in
    which TVM reads them, and one engine at a time.
    """
    with _environment:
        added = [name for name in _POOL_VARIABLES if name not in os.environ]
        os.environ.update({name: _POOL_VARIABLES[name] for name in added})
        try:
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)


def _warn_of_fewer(threads: ThreadCount) -> None:
    """Say so where not as many threads are used as were asked for."""
    if not threads.origin or threads.asked_number == threads.count:
        return
    if threads.asked_number is None:
        logger.warning(
            "%s is %.40r, not a number of threads: the model runs with 1. Unset it.",
            threads.origin,
            threads.asked,
        )
        return
    logger.warning(
        "%s is %d, and there are %d CPUs to use: the model runs with %d threads.",
        threads.origin,
        threads.asked_number,
        len(_usable_cpus()),
        threads.count,
    )


def physical_cores() -> int:
    """The number of physical cores that this process may use, at least 1.

    Two logical CPUs of one core count once; a container's CPU quota is a limit as well. Where the
    system does not tell which CPUs share a core, each counts as one.
    """
    cores = {_siblings(cpu) for cpu in _usable_cpus()}
    quotas = [quota for group in own_groups() if (quota := _quota(group)) is not None]
    return max(1, min([len(cores), *quotas]))


def _startable(count: int) -> int:
    """How many threads of a number, the calling one included, the system lets this process have.

    TVM ends the process where it cannot start one.
    """
    started, end = [], threading.Event()
    try:
        for _ in range(count - 1):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        pass
    finally:
        end.set()
        for thread in started:
            thread.join()
    return 1 + len(started)


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
