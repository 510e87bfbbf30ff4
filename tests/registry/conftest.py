"""A folder of fake distributions on ``sys.path``, found the way installed ones are."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

DEVICE_MODULE = """
from mlc_llm.plugin import Adapter, Availability, Device

class FakeDevice(Device):
    name = {name!r}
    priority = {priority}
    probe_in_process = {in_process}

    def probe(self):
        {probe}

    def open(self, index):
        raise NotImplementedError

    def target(self, index=0):
        return {{"kind": "llvm"}}

    def codegen(self, target, opt):
        raise NotImplementedError

DEVICE = FakeDevice()
"""

AVAILABLE = "return Availability((Adapter('fake', 2**30),))"


class Site:
    """Installs distributions into a folder that is on ``sys.path``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: set[str] = set()

    def install(
        self,
        distribution: str,
        entry_points: Mapping[str, Mapping[str, str]] | str,
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
        metadata: str | None = None,
    ) -> Path:
        """Write a distribution; returns its ``.dist-info`` folder.

        Args:
            distribution: its name.
            entry_points: by group (without ``mlc_llm.``) and name, or the file's very text.
            modules: source code by module name.
            version: its version.
            metadata: the text of METADATA, instead of one with name and version.
        """
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        if not isinstance(entry_points, str):
            entry_points = "\n".join(
                f"[mlc_llm.{group}]\n" + "\n".join(f"{n} = {v}" for n, v in entries.items())
                for group, entries in entry_points.items()
            )
        (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
        for name, source in (modules or {}).items():
            (self.folder / f"{name}.py").write_text(source, encoding="utf-8")
            self._modules.add(name)
        importlib.invalidate_caches()
        return info

    def install_device(
        self,
        name: str,
        probe: str = AVAILABLE,
        *,
        distribution: str | None = None,
        priority: object = 0,
        in_process: bool = True,
        extra: str = "",
    ) -> None:
        """Install a distribution with one device.

        Args:
            name: the device's name.
            probe: the statements of its ``probe`` method.
            distribution: by default ``fake-NAME``.
            priority: its priority.
            in_process: its ``probe_in_process``.
            extra: source code at the end of its module.
        """
        distribution = distribution or f"fake-{name}"
        module = f"module_of_{distribution.replace('-', '_')}"
        source = DEVICE_MODULE.format(
            name=name,
            priority=priority,
            in_process=in_process,
            probe=probe.replace("\n", "\n        "),
        )
        entry = {"devices": {name: f"{module}:DEVICE"}}
        self.install(distribution, entry, {module: source + extra})

    def forget(self) -> None:
        for name in self._modules:
            sys.modules.pop(name, None)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site; what is installed there is found before everything else."""
    for variable in ("MLC_LLM_PLUGINS", "MLC_LLM_DEVICE", "MLC_LLM_PROBE_TIMEOUT"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    installed = Site(folder)
    yield installed
    installed.forget()
