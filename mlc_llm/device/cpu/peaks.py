"""What this CPU can do at best: measured, because no table of CPUs tells it.

The kernels are in ``kernels/peak.py``. TVM's compiler is not needed to run them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHAINS = 12
"""Sums that do not wait for each other: they keep two units of four to five cycles' latency busy,
and 16 registers hold them."""

WIDTH = 16
"""Elements of each sum: a vector of the widest CPUs, several of others."""

ROUND_OPERATIONS = {"multiply_add": 2 * CHAINS * WIDTH, "multiply_add_int8": 8 * CHAINS * WIDTH}
"""Operations of a round, a multiplication and an addition being two. A lane of 32 bits adds up four
products of bytes."""

_REPEATS = 7
_LEAST_SECONDS = 0.02
_FIRST_ROUNDS = 10_000


@dataclass(frozen=True)
class CPUPeaks:
    """What some threads of this CPU do at best.

    Args:
        read: bytes a second that a sum over memory reads.
        float32: operations a second on float32, two for each multiply-add.
        int8: the same of the CPU's dot products of 8-bit integers; None where it has none.
    """

    read: float
    float32: float
    int8: float | None


def run_kernels(library: Path, threads: int, read_bytes: int) -> CPUPeaks:
    """Measure in the calling thread's pool; each figure is that of the fastest of some runs.

    Args:
        library: what ``kernels/peak.py`` compiled for this CPU.
        threads: how many threads the pool has.
        read_bytes: bytes to add up, more than the caches hold; they are allocated.
    """
    from tvm.runtime import load_module

    module = load_module(str(library))
    has_int8 = module.implements_function("multiply_add_int8")
    return CPUPeaks(
        _read(module, threads, read_bytes),
        _operations(module, "multiply_add", threads),
        _operations(module, "multiply_add_int8", threads) if has_int8 else None,
    )


def _read(module: Any, threads: int, size: int) -> float:
    """Bytes a second that a sum over ``size`` bytes reads."""
    from tvm.runtime import empty

    step = threads * CHAINS * WIDTH
    numbers = empty((max(1, size // 4 // step) * step,), "float32")
    sums = empty((threads, WIDTH), "float32")
    # Pages that were never written are all the same one.
    module["fill"](numbers, sums)
    read_sum = module["read_sum"]
    return 4 * int(numbers.shape[0]) / _fastest(lambda: read_sum(numbers, sums))


def _operations(module: Any, name: str, threads: int) -> float:
    """Operations a second of a kernel that only computes."""
    import numpy as np
    from tvm.runtime import tensor

    factor = np.float32(0.5) if name == "multiply_add" else np.int32(0x01010101)
    kernel, factors = module[name], tensor(np.full((threads, WIDTH), factor))
    rounds, seconds = _FIRST_ROUNDS // 2, 0.0
    while seconds < _LEAST_SECONDS:
        rounds *= 2
        seconds = _fastest(functools.partial(kernel, rounds, factors))
    return threads * rounds * ROUND_OPERATIONS[name] / seconds


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)
