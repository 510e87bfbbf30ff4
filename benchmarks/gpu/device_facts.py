"""The step that says which GPU, driver and Python this is."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.side import NoGPU, Record, device
from mlc_llm.plugin import Unavailable


def gpu(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """The driver's GPUs, and whether TVM has the first one."""
    from mlc_llm_cuda import driver, management

    try:
        gpus = driver.find_gpus(driver.open_driver())
    except Unavailable as error:
        raise NoGPU(f"{error.availability.reason}. {error.availability.remedy}") from None
    for found in gpus:
        note = (
            f"compute capability {found.capability / 10:.1f}, {found.memory / 2**30:.1f} GiB, "
            f"driver {management.driver_version() or 'unknown'}"
        )
        yield {"what": found.name, "note": note}
    yield {"what": "TVM's CUDA runtime", "ok": bool(device().exist)}
    yield {"what": "Python", "note": f"{platform.python_version()}, {platform.platform()}"}
    yield {"what": "made of", "note": contents["commit"]}
