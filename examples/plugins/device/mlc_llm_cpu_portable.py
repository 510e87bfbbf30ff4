"""The CPU as a device whose libraries run on most CPUs, not only on ones like this.

It differs from mlc_llm's own ``cpu`` in what code is compiled for, and in when it is available.
Everything else, the kernels above all, is inherited.
"""

from __future__ import annotations

from typing import Any

from mlc_llm.device.cpu import CPUDevice, host_features, is_x86
from mlc_llm.plugin import Availability, Unavailable

X86 = {"kind": "llvm", "mcpu": "x86-64-v3"}  # AVX2: Intel since 2013, AMD since 2015
ARM = {"kind": "llvm", "mcpu": "generic", "mattr": ["+neon"]}  # every 64-bit Arm


class PortableCPU(CPUDevice):
    """This machine's CPU, used no further than most CPUs go."""

    name = "cpu-portable"
    priority = -100  # below ``cpu``, so that ``auto`` never takes it

    def probe(self) -> Availability:
        """As for ``cpu``, unless this CPU is older than what is compiled for."""
        missing = set(self.required_features(self.target())) - host_features()
        if missing:
            raise Unavailable(f"this CPU lacks {', '.join(sorted(missing))}")
        return super().probe()

    def target(self, index: int = 0) -> dict[str, Any]:
        """The same on every machine, whatever its CPU can do."""
        return dict(X86 if is_x86() else ARM)
