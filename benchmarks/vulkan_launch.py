"""What a kernel's launch costs on a Vulkan device, and what it costs to wait and to copy.

Run it with ``python -m benchmarks.vulkan_launch``. The kernel adds one to 16 numbers, so that
nearly all of the time is the launch itself. On a software driver the device's work is done by the
same cores, and counts in "launch and execution".
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.script import ir as I
from tvm.script import tirx as T

TARGET = {"kind": "webgpu", "target_device_type": 7, "max_num_threads": 256}


@I.ir_module
class Kernels:
    @T.prim_func(s_tir=True)
    def increment(a: T.handle, c: T.handle) -> None:
        A = T.match_buffer(a, (16,), "int32")
        C = T.match_buffer(c, (16,), "int32")
        for _block in T.thread_binding(0, 1, thread="blockIdx.x"):
            for thread in T.thread_binding(0, 16, thread="threadIdx.x"):
                C[thread] = A[thread] + 1


def kernel() -> Any:
    """The kernel, compiled and loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        built = tvm.compile(Kernels, tvm.target.Target(TARGET, host="llvm"))
        built.export_library(str(path))
        return tvm.runtime.load_module(str(path))["increment"]


def microseconds(work: Callable[[], object], rounds: int) -> float:
    """The median time of some work."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def launches(device: Any, launches: int, pairs: int, rounds: int) -> tuple[float, float]:
    """Microseconds a launch: until the host is free again, and until the device is done.

    Args:
        device: TVM's device.
        launches: launches between two waits.
        pairs: pairs of tensors that are used in turn, each with a bind group of its own.
        rounds: how often that is repeated; the median counts.
    """
    increment = kernel()
    tensors = [
        tuple(tvm.runtime.tensor(np.zeros(16, "int32"), device) for _ in "ac") for _ in range(pairs)
    ]
    recorded = []

    def work() -> None:
        start = time.perf_counter()
        for launch in range(launches):
            increment(*tensors[launch % pairs])
        recorded.append(time.perf_counter() - start)
        device.sync()

    work()
    recorded.clear()
    total = microseconds(work, rounds)
    return statistics.median(recorded) * 1e6 / launches, total / launches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=int, default=0, help="the device")
    parser.add_argument("--launches", type=int, default=500, help="launches between two waits")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    device = tvm.device("vulkan", arguments.index)
    print(f"device: {device.device_name}")
    for pairs in (1, 100):
        host, total = launches(device, arguments.launches, pairs, arguments.rounds)
        print(f"launch, {pairs:3} pairs of tensors: {host:6.1f} us on the host")
        print(f"launch and execution:           {total:6.1f} us")
    word = tvm.runtime.tensor(np.zeros(1, "int32"), device)
    row = tvm.runtime.tensor(np.zeros(32000, "float32"), device)
    source = np.zeros(32000, "float32")
    for name, work in {
        "wait with nothing to do": device.sync,
        "download of 4 bytes": word.numpy,
        "download of 128,000 bytes": row.numpy,
        "upload of 128,000 bytes": lambda: row.copyfrom(source),
    }.items():
        print(f"{name + ':':31} {microseconds(work, 50 * arguments.rounds):6.1f} us")
    print(json.loads(tvm.get_global_func("mlc_llm_vulkan.stats")(arguments.index)))


if __name__ == "__main__":
    main()
