"""The vulkan device: GPUs of any vendor, on the stock TVM wheel.

======================= ======================================================================
module                  says
======================= ======================================================================
:mod:`.device`          the device as mlc_llm's plugins are
:mod:`.loader`          what the system's Vulkan loader has, or why it has nothing
:mod:`.parts`           whether TVM, wgpu-native and the native library are there and fit
:mod:`.adapters`        which adapters the native library can use
:mod:`.target`          what code is compiled for, and which libraries an adapter takes
:mod:`.fingerprint`     what all of that depends on
:mod:`.backend`         brings ``tvm.device("vulkan")``, when TVM is imported
:mod:`.codegen`         the compiler half
======================= ======================================================================

``import tvm`` imports this package, so nothing is imported here before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlc_llm_vulkan.device import DEVICE

__all__ = ["DEVICE"]


def __getattr__(name: str) -> Any:
    if name == "DEVICE":
        from mlc_llm_vulkan.device import DEVICE

        return DEVICE
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
