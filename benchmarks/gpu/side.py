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

from benchmarks.gpu.device import NoGPU, Record

STEPS = {
    "gpu": "benchmarks.gpu.device",
    "instructions": "benchmarks.gpu.checks",
    "kernels": "benchmarks.gpu.checks",
    "agreement": "benchmarks.gpu.agreement",
    "peaks": "benchmarks.gpu.peaks",
    "speed": "benchmarks.gpu.speed",
    "profile": "benchmarks.gpu.speed",
}
"""The module of each step; its function of the step's name yields records."""


def main(arguments: list[str]) -> None:
    step, bundle, *more = arguments
    function = getattr(importlib.import_module(STEPS[step]), step)
    contents = json.loads((Path(bundle) / "bundle.json").read_text(encoding="utf-8"))
    records: Iterator[Record] = function(Path(bundle), contents, *more)
    try:
        for record in records:
            print(json.dumps({"step": step, **record}), flush=True)
    except NoGPU as error:
        record = {"step": step, "what": "a GPU", "ok": False, "note": str(error)}
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
    # TVM aborts a process in which a kernel has failed, when it lets go of tensors.
    os._exit(0)
