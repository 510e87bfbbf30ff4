"""``mlc_llm plugins`` and ``mlc_llm devices``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLI = Callable[..., Any]

DEVICE = """
from mlc_llm.plugin import Adapter, Availability, Device
class Base(Device):
    probe_in_process = True
    def open(self, index): ...
    def target(self, index=0): ...
    def codegen(self, target, opt): ...
class Fast(Base):
    name = "fast"
    priority = 900
    def probe(self):
        return Availability((Adapter("Card [1]", 3 * 2**30, {"driver": "7"}), Adapter("Card 2")))
class Sick(Base):
    name = "sick"
    def probe(self):
        return Availability(reason="it has a cold", remedy="keep it warm")
"""


@pytest.fixture
def fakes(tmp_path: Path) -> dict[str, str]:
    """Variables with which fake plugins are found: a good one, a sick one and a broken one."""
    info = tmp_path / "fake_devices-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-devices\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(
        "[mlc_llm.devices]\nfast = fake_devices:Fast\nsick = fake_devices:Sick\n"
        "broken = no_such_module:X\n"
    )
    (tmp_path / "fake_devices.py").write_text(DEVICE)
    return {"PYTHONPATH": str(tmp_path), "MLC_LLM_PLUGINS": "fake-devices"}


class TestDevices:
    def test_the_table(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        result = mlc_llm("devices", variables=fakes)
        assert (result.returncode, result.stderr) == (0, "")
        header, *rows = result.stdout.splitlines()
        assert header.split()[:3] == ["device", "available", "memory"]
        cells = [row.split() for row in rows]
        assert ["*", "fast:0", "yes", "3.0", "GiB", "Card", "[1]", "(driver", "7)"] in cells
        assert ["fast:1", "yes", "Card", "2"] in cells
        assert any(row[:2] == ["cpu:0", "yes"] for row in cells)
        assert any("It has a cold. Keep it warm." in row for row in rows)
        assert any("no_such_module" in row for row in rows)

    def test_json(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        result = mlc_llm("devices", "--json", variables=fakes)
        data = json.loads(result.stdout)
        assert data["auto"] == "fast:0"
        devices = {device["name"]: device for device in data["devices"]}
        assert devices["fast"]["adapters"][0] == {
            "device": "fast:0",
            "name": "Card [1]",
            "memory": 3 * 2**30,
            "software": False,
            "shares_memory": False,
            "float16": True,
            "largest_tensor": None,
            "details": {"driver": "7"},
        }
        assert devices["sick"]["reason"] == "it has a cold"
        assert devices["sick"]["remedy"] == "keep it warm"
        assert not devices["broken"]["available"]

    def test_no_device_at_all_is_no_error(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        fakes["MLC_LLM_DEVICE"] = "sick"
        assert json.loads(mlc_llm("devices", "--json", variables=fakes).stdout)["auto"] is None


class TestPlugins:
    def test_the_table(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        result = mlc_llm("plugins", variables=fakes)
        assert (result.returncode, result.stderr) == (0, "")
        cells = [row.split() for row in result.stdout.splitlines()]
        assert ["device", "fast", "fake-devices", "2.1", "compatible"] in cells
        assert ["architecture", "llama", "mlc-llm", "0.1.0", "available"] in cells
        (broken,) = [row for row in cells if "broken" in row]
        assert broken[4] == "discovered"
        assert "ModuleNotFoundError:" in broken

    def test_json(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        fakes["MLC_LLM_PLUGINS"] = "fake-device:fast"
        result = mlc_llm("plugins", "--json", variables=fakes)
        data = json.loads(result.stdout)
        assert "Did you mean 'fake-devices'" in data["problems"][0]
        fast = next(entry for entry in data["plugins"] if entry["name"] == "fast")
        assert (fast["state"], fast["active"]) == ("discovered", False)
        assert "leaves it out" in fast["reason"]

    def test_tracebacks_are_in_json(self, mlc_llm: CLI, fakes: dict[str, str]) -> None:
        data = json.loads(mlc_llm("plugins", "--json", variables=fakes).stdout)
        broken = next(entry for entry in data["plugins"] if entry["name"] == "broken")
        assert "Traceback" in broken["traceback"]

    def test_a_malformed_variable(self, mlc_llm: CLI) -> None:
        result = mlc_llm("plugins", variables={"MLC_LLM_PLUGINS": "a:b:c"})
        assert (result.returncode, result.stdout) == (1, "")
        assert "[plugin-list-malformed]" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
def test_a_table_on_a_terminal(fakes: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    import pty

    for name, value in {**fakes, "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    shown = bytearray()

    def read(descriptor: int) -> bytes:
        shown.extend(data := os.read(descriptor, 1 << 16))
        return data

    status = pty.spawn([sys.executable, "-m", "mlc_llm", "devices"], read)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"Card [1]" in shown
    assert b"\x1b[" in shown
