"""The parts that the device is made of: NVIDIA's wheels, and TVM with its CUDA runtime."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence

from mlc_llm.plugin import Unavailable
from mlc_llm.plugin.packages import tvm_has_runtime
from mlc_llm_cuda import backend
from mlc_llm_cuda.driver import GPU
from mlc_llm_cuda.toolkit import (
    LIBRARIES,
    MissingPart,
    include_folders,
    open_library,
)

DISTRIBUTION = "mlc-llm-cuda"
AUTOLOAD_VARIABLE = "TVM_DEVICE_BACKEND_AUTOLOAD"


def require_tvm_runtime() -> None:
    """Refuse a TVM that is built without its CUDA runtime; TVM is not imported."""
    if not tvm_has_runtime("cuda"):
        raise Unavailable(
            f"the installed apache-tvm has no CUDA runtime for {platform.platform(terse=True)}",
            "Use Linux or Windows, for which apache-tvm's wheels have it.",
        )


def require_toolkit() -> None:
    """Refuse where a library or the headers of NVIDIA's wheels are missing or cannot be opened."""
    try:
        for name in LIBRARIES:
            open_library(name)
        include_folders()
    except MissingPart as error:
        raise missing(error) from None


def missing(part: MissingPart) -> Unavailable:
    """What is said of a part that is missing: how to get it."""
    wheel = wanted(part.wheel)
    return Unavailable(
        f"{part}; it is in the package {part.wheel}",
        f"Install it again: python -m pip install --force-reinstall --no-deps '{wheel}'",
    )


def wanted(wheel: str) -> str:
    """A package with the version that this distribution asks for, as in ``name==1.2.3``."""
    try:
        requirements = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return wheel
    plain = (text.partition(";")[0].strip() for text in requirements)
    return next((text for text in plain if text.startswith(f"{wheel}==")), wheel)


def require_devices(gpus: Sequence[GPU]) -> None:
    """Refuse where TVM does not have the driver's GPUs; imports TVM, which loads its runtime."""
    import tvm

    missing = [gpu.name for gpu in gpus if not tvm.cuda(gpu.ordinal).exist]
    if not missing:
        return
    if os.environ.get(AUTOLOAD_VARIABLE) == "0":
        raise Unavailable(
            f"{AUTOLOAD_VARIABLE}=0 keeps TVM from loading its CUDA runtime",
            f"Unset {AUTOLOAD_VARIABLE}.",
        )
    reason = backend.problem or "CUDA's runtime library gives no reason"
    raise Unavailable(
        f"TVM cannot use {', '.join(missing)} ({reason})",
        "Check `nvidia-smi`; reboot if the driver was updated.",
    )
