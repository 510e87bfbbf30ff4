"""A fake of every kind of plugin: it keeps the interface's promises and needs no hardware.

:func:`~mlc_llm.testing.registry_of` makes a registry of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_llm.device.cpu import CPUDevice
from mlc_llm.errors import DeviceError, LibraryError
from mlc_llm.library.record import read_record
from mlc_llm.model.llama import Llama
from mlc_llm.plugin import (
    Adapter,
    Availability,
    Device,
    DeviceCodegen,
    Found,
    LibraryRecord,
    LibraryRequest,
    NotFound,
    hookimpl,
)

if TYPE_CHECKING:
    import tvm

FAKE_TEMPLATE: dict[str, Any] = {
    "name": "fake",
    "system_template": "<system>{system_message}</system>\n",
    "system_message": "Be brief.",
    "roles": {"user": "<user>", "assistant": "<assistant>", "tool": "<tool>"},
    "seps": ["</>\n"],
    "stop_str": ["</>"],
}
"""A conversation template that has everything: a system message, a tool role, a stop string."""


class FakeDevice(Device):
    """A device that runs everything on the CPU, and says of itself what a test wants.

    Args:
        name: its name.
        priority: its priority.
        reason: why it is not available; empty when it is.
        remedy: what the user can do about it.
        adapters: how many adapters it has when it is available.
    """

    probe_in_process = True

    def __init__(
        self,
        name: str = "fake",
        *,
        priority: int = 0,
        reason: str = "",
        remedy: str = "",
        adapters: int = 1,
    ) -> None:
        self.name = name
        self.priority = priority
        self._adapters = 0 if reason else adapters
        self._reason, self._remedy = reason, remedy
        self._cpu = CPUDevice()

    def probe(self) -> Availability:
        adapters = tuple(Adapter(f"{self.name} {index}") for index in range(self._adapters))
        return Availability(adapters, self._reason, self._remedy)

    def open(self, index: int) -> tvm.runtime.Device:
        if not 0 <= index < self._adapters:
            raise DeviceError(
                f"The device '{self.name}:{index}' does not exist. {self._reason}",
                code="device-index-unknown",
            )
        return self._cpu.open(0)

    def target(self, index: int = 0) -> dict[str, Any]:
        return self._cpu.target()

    def codegen(self, target: Mapping[str, Any], opt: Mapping[str, str]) -> DeviceCodegen:
        return self._cpu.codegen(target, opt)

    def required_features(self, target: Mapping[str, Any]) -> list[str]:
        return self._cpu.required_features(target)

    def mismatch(self, record: LibraryRecord, target: Mapping[str, Any]) -> str | None:
        return self._cpu.mismatch(record, target)


class FakeProvider:
    """A library provider that has the files it is given.

    Args:
        files: compiled libraries.
        name: its name.
        order: when it is asked.
    """

    def __init__(self, files: Iterable[Path] = (), name: str = "fake", order: int = 50) -> None:
        self.name = name
        self.order = order
        self.files = list(files)
        self.asked: list[LibraryRequest] = []
        """The requests that it was asked, in their order."""

    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Found | NotFound | None:
        self.asked.append(request)
        if request.named is not None:
            return None
        looked_at = []
        for path in self.files:
            reason = _unfit(path, request)
            if reason is None:
                return Found(path, self.name)
            looked_at.append((str(path), reason))
        return NotFound(self.name, tuple(looked_at))


def _unfit(path: Path, request: LibraryRequest) -> str | None:
    try:
        record = read_record(path)
    except LibraryError as error:
        return str(error)
    if record.device != request.device or record.target.get("kind") != request.target.get("kind"):
        return f"it is for the device {record.device!r} and the target {record.target!r}"
    differences = record.spec.differences(request.spec)
    return f"it is for another model: {'; '.join(differences)}" if differences else None


class FakeArchitecture(Llama):
    """Llama's checkpoints, config and module under another name.

    Args:
        name: its name, the ``model_type``.
    """

    def __init__(self, name: str = "fake") -> None:
        self.name = name
