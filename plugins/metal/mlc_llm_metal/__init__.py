"""The metal device: the GPU of Apple silicon.

This version finds the GPU and says what is missing to use it; it does not compile for it yet.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mlc_llm.plugin import Availability, Device, DeviceCodegen, Unavailable
from mlc_llm.plugin.packages import tvm_has_runtime
from mlc_llm.registry.choice import unavailable
from mlc_llm.registry.probing import probe

if TYPE_CHECKING:
    import tvm

METAL = "/System/Library/Frameworks/Metal.framework/Metal"


class MetalDevice(Device):
    """The GPU of Apple silicon through Metal.

    Args:
        system: the operating system's name, as ``platform.system`` gives it.
        machine: the CPU's architecture, as ``platform.machine`` gives it.
    """

    name = "metal"
    priority = 200

    def __init__(self, system: str | None = None, machine: str | None = None) -> None:
        self.system = system or platform.system()
        self.machine = machine or platform.machine()

    def probe(self) -> Availability:
        if self.system != "Darwin":
            raise Unavailable(f"Metal is Apple's, and this is {self.system}")
        if self.machine != "arm64" and sysctl("sysctl.proc_translated") == "1":
            raise Unavailable(
                "this Python is built for Intel and runs translated (Rosetta)",
                "Install a Python for arm64 and mlc-llm in it.",
            )
        if self.machine != "arm64":
            raise Unavailable(
                f"apache-tvm's wheels for macOS are for Apple silicon, and this is {self.machine}"
            )
        if not tvm_has_runtime("metal"):
            raise Unavailable(
                "the installed apache-tvm has no Metal runtime",
                "Reinstall it: `pip install --force-reinstall apache-tvm`.",
            )
        if not has_default_device():
            raise Unavailable("Metal finds no GPU, as in many virtual machines")
        raise Unavailable(
            f"this version of mlc-llm-metal finds {sysctl('machdep.cpu.brand_string')}, "
            "but does not compile for it yet",
            "Use the cpu device, or a later version of mlc-llm-metal.",
        )

    def fingerprint(self) -> str:
        # Metal is a part of macOS.
        return f"{self.system} {self.machine} {platform.mac_ver()[0]}"

    def open(self, index: int) -> tvm.runtime.Device:
        self._refuse()

    def target(self, index: int = 0) -> dict[str, Any]:
        self._refuse()

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise unavailable(self.name, probe(self.name))


def has_default_device() -> bool:
    """Whether Metal has a GPU at all."""
    create = ctypes.CDLL(METAL).MTLCreateSystemDefaultDevice
    create.restype = ctypes.c_void_p
    return bool(create())


def sysctl(name: str) -> str:
    """A value of the kernel's, or nothing where there is no such value."""
    try:
        return subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


DEVICE = MetalDevice()
