"""The device as mlc_llm's plugins are: the parts of this package, put together."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc_llm.compile.gpu.schemes import has_scheme
from mlc_llm.errors import DeviceError
from mlc_llm.plugin import (
    Adapter,
    Availability,
    Device,
    DeviceCodegen,
    LibraryRecord,
    Scheme,
)
from mlc_llm.registry.choice import require_available, unavailable
from mlc_llm_cuda import graph, management, parts, target
from mlc_llm_cuda.driver import GPU, find_gpus, open_driver
from mlc_llm_cuda.fingerprint import fingerprint

if TYPE_CHECKING:
    import tvm

CAPABILITY, ORDINAL = "compute capability", "ordinal"
"""Details of an adapter that the device itself goes by."""


class CUDADevice(Device):
    """NVIDIA GPUs through CUDA."""

    name = "cuda"
    priority = 300

    def probe(self) -> Availability:
        gpus = find_gpus(open_driver())
        parts.require_tvm_runtime()
        parts.require_toolkit()
        parts.require_devices(gpus)
        version = management.driver_version()
        return Availability(tuple(described(gpu, i, version) for i, gpu in enumerate(gpus)))

    def fingerprint(self) -> str:
        return fingerprint()

    def trials(self) -> Mapping[str, Callable[[], str]]:
        from mlc_llm_cuda.trials import TRIALS

        return TRIALS

    def open(self, index: int) -> tvm.runtime.Device:
        ordinal = int(self._adapter(index).details.get(ORDINAL, index))
        import tvm

        handle = tvm.cuda(ordinal)
        if not handle.exist:
            raise DeviceError(
                f"The device 'cuda:{index}' was found, and cannot be opened. Check it with "
                "`nvidia-smi`; another program may use it alone."
            )
        return handle

    def target(self, index: int = 0) -> dict[str, Any]:
        # As the probe found it, so that the driver is not opened in the user's process for it.
        capability = self._adapter(index).details[CAPABILITY]
        return target.target_of(int(capability.replace(".", "")))

    def target_for(self, architectures: Sequence[str]) -> dict[str, Any]:
        if platform.system() == "Darwin":
            raise unavailable(self.name, Availability(reason="there is no CUDA for macOS"))
        return target.target_for(architectures)

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        from mlc_llm_cuda.codegen import CUDACodegen

        return CUDACodegen(target, opt)

    def capture(self, handle: tvm.runtime.Device, work: Callable[[], None]) -> Callable[[], None]:
        return graph.capture(handle, work)

    def has_scheme(self, scheme: Scheme) -> bool:
        return has_scheme(scheme)

    def mismatch(self, record: LibraryRecord, gpu: Mapping[str, Any]) -> str | None:
        return target.mismatch(record, gpu)

    def _adapter(self, index: int) -> Adapter:
        adapters = require_available(self.name).adapters
        if not 0 <= index < len(adapters):
            there = ", ".join(f"cuda:{i} ({one.name})" for i, one in enumerate(adapters))
            raise DeviceError(
                f"There is no device 'cuda:{index}'. There is: {there}.",
                code="device-index-unknown",
            )
        return adapters[index]


def described(gpu: GPU, index: int, driver: str) -> Adapter:
    """What the user is told of a GPU.

    Args:
        gpu: the GPU.
        index: the adapter's index. The driver's differs where a GPU before it is too old.
        driver: the driver's version; empty where it is not known.
    """
    free = management.free_memory(gpu.uuid)
    details = {
        CAPABILITY: target.dotted(gpu.capability),
        ORDINAL: str(gpu.ordinal) if gpu.ordinal != index else "",
        "free": "" if free is None else f"{free / 2**30:.1f} GiB",
        "driver": driver,
    }
    return Adapter(gpu.name, gpu.memory, {key: value for key, value in details.items() if value})


DEVICE = CUDADevice()
