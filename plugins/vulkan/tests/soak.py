"""Uses a Vulkan device much, and prints what each kind of use has left behind, as JSON.

Run it with steps as ``name=count``: ``launches``, ``loads``, ``threads`` and ``lives``. Each step
is done once before it is measured, so that what is kept on purpose does not count.
"""

from __future__ import annotations

import gc
import json
import resource
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm.script import ir as I
from tvm.script import tirx as T

SIZE = 1000
TARGET = {"kind": "webgpu", "target_device_type": 7, "max_num_threads": 256}
DEVICE = tvm.device("vulkan", 0)


@I.ir_module
class Kernels:
    @T.prim_func(s_tir=True)
    def increment(a: T.handle, c: T.handle, step: T.int32):
        A = T.match_buffer(a, (1000,), "int32")
        C = T.match_buffer(c, (1000,), "int32")
        for block in T.thread_binding(0, 16, thread="blockIdx.x"):
            for thread in T.thread_binding(0, 64, thread="threadIdx.x"):
                if block * 64 + thread < 1000:
                    C[block * 64 + thread] = A[block * 64 + thread] + step


def chain(kernel: Any, count: int) -> bool:
    """Launch a kernel over and over on its own result; whether the end is right."""
    tensors = [tvm.runtime.tensor(np.zeros(SIZE, "int32"), DEVICE) for _ in range(2)]
    for launch in range(count):
        kernel(tensors[launch % 2], tensors[(launch + 1) % 2], 1)
    return bool((tensors[count % 2].numpy() == count).all())


def launches(path: Path, count: int) -> bool:
    return chain(tvm.runtime.load_module(str(path))["increment"], count)


def loads(path: Path, count: int) -> bool:
    """Load a library, use it and close it, again and again."""
    # A library that another step has loaded stays open, so this is another one.
    copy = shutil.copy(path, path.with_name("loads.so"))
    correct = True
    for _ in range(count):
        module = tvm_ffi.load_module(copy, keep_module_alive=False)
        correct &= chain(module["increment"], 3)
        del module
    return correct


def threads(path: Path, count: int) -> bool:
    answers: list[bool] = []
    workers = [
        threading.Thread(target=lambda: answers.append(launches(path, 500))) for _ in range(count)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return answers == [True] * count


def lives(path: Path, count: int) -> bool:
    """Tensors of many sizes that are made, used and freed."""
    kernel = tvm.runtime.load_module(str(path))["increment"]
    correct = True
    for index in range(count):
        array = np.arange(1 + 977 * index % 50_000, dtype="int32")
        tensor = tvm.runtime.tensor(array, DEVICE)
        correct &= bool((tensor.numpy() == array).all())
        correct &= chain(kernel, 2)
    return correct


STEPS: dict[str, Callable[[Path, int], bool]] = {
    "launches": launches,
    "loads": loads,
    "threads": threads,
    "lives": lives,
}


def resident() -> int:
    """Bytes of memory that this process has now; where that is unknown, the most it had."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def state() -> dict[str, int]:
    gc.collect()
    DEVICE.sync()
    stats = json.loads(tvm.get_global_func("mlc_llm_vulkan.stats")(0))
    return {
        "launches": stats["launches"],
        "compiled": stats["pipelines"],
        "bytes_live": stats["bytes_live"],
        "bind_groups": stats["bind_groups_live"],
        "resident": resident(),
    }


def measure(step: Callable[[Path, int], bool], path: Path, count: int) -> dict[str, Any]:
    step(path, count)
    before = state()
    correct = step(path, count)
    after = state()
    return {"correct": correct, **{name: after[name] - before[name] for name in after}}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.so"
        built = tvm.compile(Kernels, tvm.target.Target(TARGET, host="llvm"))
        built.export_library(str(path))
        answers = {}
        for argument in sys.argv[1:]:
            name, count = argument.split("=")
            answers[name] = measure(STEPS[name], path, int(count))
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
