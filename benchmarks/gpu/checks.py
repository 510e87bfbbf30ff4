"""The steps that check instructions and kernels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu import cases as packed
from benchmarks.gpu import instructions as warp
from benchmarks.gpu import kernel_cases
from benchmarks.gpu.device import Record, device, open_library
from benchmarks.gpu.kernel_cases import SCRATCH


def instructions(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """What instructions do."""
    yield from _checked(bundle, warp.CASES)


def kernels(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """What kernels compute."""
    yield from _checked(bundle, kernel_cases.QUICK if contents["quick"] else kernel_cases.ALL)


def _checked(bundle: Path, cases: Any) -> Iterator[Record]:
    gpu = device()
    libraries = bundle / "libraries"
    library = open_library(libraries / "kernels.so")
    scratch = json.loads((libraries / SCRATCH).read_text(encoding="utf-8"))
    for name, problem in packed.check_all(cases, library, gpu, scratch):
        yield {"what": name, "ok": not problem, "note": problem}
