"""The step that measures what the GPU does at best, which other figures are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.device import Record, device, open_library
from benchmarks.gpu.kernel_cases import PRODUCT


def least_seconds(work: Callable[[], object], wait: Callable[[], object], calls: int) -> float:
    """The shortest time that a call took, of three times ``calls`` calls in a row."""
    work()
    times = []
    for _ in range(3):
        wait()
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        wait()
        times.append((time.perf_counter() - begin) / calls)
    return min(times)


def peaks(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """A copy within the GPU's memory, a launch, and our own product of many tokens."""
    from tvm.runtime import empty, tensor

    gpu = device()
    copied = _copy(gpu, contents["copy_bytes"])
    yield _rate("copy within the GPU's memory", "bytes_per_second", copied)
    library = open_library(bundle / "libraries" / "kernels.so")
    x, y = (empty((128,), "uint32", gpu), empty((32,), "uint32", gpu))
    seconds = least_seconds(lambda: library["loads"](x, y), gpu.sync, 200)
    yield {"what": "launch from Python, one after the other", "value": seconds * 1e6, "unit": "us"}

    columns, rows, tokens = contents["large"]
    halves = np.full((tokens, columns), 0.5, "float16")
    words = np.random.default_rng(0).integers(0, 2**32, (rows, columns // 8), np.uint32)
    scales = np.full((rows, columns // 32), 0.01, "float16")
    given = [tensor(a, gpu) for a in (halves, words, scales)]
    out = empty((tokens, rows), "float16", gpu)
    seconds = least_seconds(lambda: library[PRODUCT](*given, out), gpu.sync, 5)
    speed = 2 * columns * rows * tokens / seconds
    yield _rate(f"our product of {tokens} tokens, 4-bit weights", "operations_per_second", speed)


def _copy(gpu: Any, size: int) -> float:
    """Bytes a second that a copy reads and writes together."""
    from tvm.runtime import empty

    source, target = (empty((size,), "uint8", gpu) for _ in range(2))
    return 2 * size / least_seconds(lambda: source.copyto(target), gpu.sync, 10)


def _rate(what: str, kind: str, value: float) -> Record:
    unit = "GB/s" if kind == "bytes_per_second" else "TFLOP/s"
    return {"what": what, "value": value / (1e9 if unit == "GB/s" else 1e12), "unit": unit}
