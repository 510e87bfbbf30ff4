"""The child process of a step of the bundle: writes what it finds as lines of JSON.

    python -m benchmarks.gpu.side STEP BUNDLE [MODEL]

A line has ``step`` and ``what``. Of a check it has ``ok``; of a measurement ``value`` and ``unit``,
and where they are known the bytes or the operations a second (``bytes_per_second``,
``operations_per_second``). ``note`` says more.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]

STEPS = {
    "gpu": "benchmarks.gpu.device_facts",
    "instructions": "benchmarks.gpu.checks",
    "kernels": "benchmarks.gpu.checks",
    "agreement": "benchmarks.gpu.agreement",
    "peaks": "benchmarks.gpu.peaks",
    "speed": "benchmarks.gpu.speed",
    "profile": "benchmarks.gpu.speed",
}
"""The module of each step; its function of the step's name yields records."""


def device() -> Any:
    """TVM's first GPU, with TVM's runtime alone.

    Raises:
        RuntimeError: there is none, with the reason.
    """
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    import tvm

    from mlc_llm_cuda import backend

    backend.load()
    if not backend.loaded():
        raise RuntimeError(backend.problem or "there is no NVIDIA driver (libcuda.so.1)")
    found = tvm.cuda(0)
    if not found.exist:
        raise RuntimeError("CUDA's runtime library finds no GPU; is the driver 580 or newer?")
    return found


def main(arguments: list[str]) -> int:
    step, bundle, *more = arguments
    function = getattr(importlib.import_module(STEPS[step]), step)
    contents = json.loads((Path(bundle) / "bundle.json").read_text(encoding="utf-8"))
    records: Iterator[Record] = function(Path(bundle), contents, *more)
    for record in records:
        print(json.dumps({"step": step, **record}), flush=True)
    return 0


if __name__ == "__main__":
    # Libraries whose kernels failed may abort when they are unloaded.
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)
