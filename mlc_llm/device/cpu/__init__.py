"""The built-in device: the CPU, through LLVM and kernels of our own.

Another plugin's device for the same hardware may derive from :class:`CPUDevice`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc_llm.device.cpu.features import host_features, host_target, is_x86, required_features
from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Adapter, Availability, Device, DeviceCodegen, LibraryRecord, Scheme
from mlc_llm.weights.paths import listed

if TYPE_CHECKING:
    import tvm

__all__ = ["CPU", "CPUDevice", "host_features", "is_x86"]


class CPUDevice(Device):
    """This machine's CPU; always there, and what ``auto`` takes when there is nothing faster."""

    name = "cpu"
    priority = 0
    options: Mapping[str, Sequence[str]] = {"activations": ("auto", "mixed", "a16", "a8")}
    """``activations`` says how products with quantised weights round theirs: to 8 bits in the
    prefill and to 16 in the decode, which waits for the weights anyway (mixed), to 16 bits
    everywhere (a16, slower in the prefill), or to 8 everywhere (a8, coarser). By default (auto)
    small models, whose answers it changes, have a16, and others mixed. ``docs/decisions.md`` has
    what each costs."""
    # As many as linear kernels take at a time (`ROUNDED_TOKENS`, `PANEL_TOKENS`). What a layer
    # makes of more leaves the caches before it is read: 28 MB of 512 tokens, in Gemma 3 1B.
    prefill_rows = 128
    probe_in_process = True

    def probe(self) -> Availability:
        details = {"cores": str(os.cpu_count()), "features": " ".join(self._notable())}
        adapter = Adapter(platform.machine(), _memory(), details, shares_memory=True)
        return Availability((adapter,))

    def open(self, index: int) -> tvm.runtime.Device:
        if index != 0:
            raise DeviceError(
                f"There is one CPU device, cpu:0; cpu:{index} does not exist.",
                code="device-index-unknown",
            )
        import tvm

        return tvm.cpu()

    def target(self, index: int = 0) -> dict[str, Any]:
        return host_target()

    def required_features(self, target: Mapping[str, Any]) -> list[str]:
        return required_features(dict(target))

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        from mlc_llm.device.cpu.codegen import CPUCodegen

        return CPUCodegen(target, opt)

    def has_scheme(self, scheme: Scheme) -> bool:
        # What kernels/group_linear.py says of the sums of a group.
        return scheme.is_float or (scheme.bits <= 8 and scheme.group in range(8, 65, 8))

    def mismatch(self, record: LibraryRecord, target: Mapping[str, Any]) -> str | None:
        missing = sorted(set(record.cpu_features) - host_features())
        if not missing:
            return None
        return f"it needs the CPU features {listed(missing)}, which this CPU does not have"

    def _notable(self) -> list[str]:
        return sorted(host_features().intersection(required_features(self.target())))


CPU = CPUDevice()


def _memory() -> int | None:
    """Bytes of this machine's memory, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None  # Windows has no sysconf
