"""The cuda device: NVIDIA GPUs, with nothing but their driver and PyPI's packages.

======================= ======================================================================
module                  says
======================= ======================================================================
:mod:`.device`          the device as mlc_llm's plugins are
:mod:`.driver`          which GPUs NVIDIA's driver has, or why it has none
:mod:`.management`      what else is known of them: free memory, MIG, the driver's version
:mod:`.toolkit`         where the libraries and headers of NVIDIA's wheels are
:mod:`.parts`           whether those, and TVM's CUDA runtime, are there and work
:mod:`.target`          what code is compiled for, and which libraries a GPU takes
:mod:`.trials`          each of these tried, for the doctor
:mod:`.fingerprint`     what the probe's answer depends on
:mod:`.backend`         brings ``tvm.cuda()``, when TVM is imported
:mod:`.codegen`         the compiler half
:mod:`.kernels`         the kernels that are not those of all GPUs
:mod:`.compilation`     from CUDA C to machine code
:mod:`.nvrtc`           NVIDIA's compiler
:mod:`.fatbin`          machine code for several GPUs as one
:mod:`.stand_in`        a driver without GPUs, to compile where there is no driver
======================= ======================================================================

``import tvm`` imports this package, so nothing is imported here before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc_llm_cuda.device import DEVICE

__all__ = ["DEVICE"]


def __getattr__(name: str) -> Any:
    if name == "DEVICE":
        from mlc_llm_cuda.device import DEVICE

        return DEVICE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
