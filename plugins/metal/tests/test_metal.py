"""The metal device's reasons."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import mlc_llm_metal
import pytest

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Device
from mlc_llm.registry.probing import probe, probe_here
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import raises


def test_it_is_a_device() -> None:
    device = Registry(allowed=["mlc-llm-metal"]).device("metal")
    assert device is mlc_llm_metal.DEVICE
    assert isinstance(device, Device)
    assert 100 < device.priority < 300
    assert not device.probe_in_process


def test_it_is_never_available_without_a_reason() -> None:
    availability = probe("metal", Registry(allowed=["mlc-llm-metal"]))
    assert not availability.available
    assert availability.reason


def test_using_it_raises_the_same_reason() -> None:
    reason = probe("metal").reason
    for use in (
        lambda: mlc_llm_metal.DEVICE.open(0),
        mlc_llm_metal.DEVICE.target,
        lambda: mlc_llm_metal.DEVICE.codegen({}, {}),
    ):
        with raises("device-unavailable", reason[1:], error=DeviceError):
            use()


@pytest.mark.parametrize("system", ["Linux", "Windows"])
def test_another_system(system: str) -> None:
    availability = probe_here(mlc_llm_metal.MetalDevice(system=system))
    assert availability.reason == f"Metal is Apple's, and this is {system}"
    assert availability.remedy == ""


def test_an_intel_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    intel = mlc_llm_metal.MetalDevice("Darwin", "x86_64")
    monkeypatch.setattr(mlc_llm_metal, "sysctl", lambda name: "")
    assert "for Apple silicon, and this is x86_64" in probe_here(intel).reason
    monkeypatch.setattr(mlc_llm_metal, "sysctl", lambda name: "1")
    assert "Rosetta" in probe_here(intel).reason
    assert "arm64" in probe_here(intel).remedy


def test_a_tvm_without_metal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tvm").mkdir()
    (tmp_path / "tvm" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "tvm", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    availability = probe_here(mlc_llm_metal.MetalDevice("Darwin", "arm64"))
    assert "no Metal runtime" in availability.reason


@pytest.mark.skipif(platform.system() == "Darwin", reason="macOS has it")
def test_a_value_of_the_kernels_that_is_not_there() -> None:
    assert mlc_llm_metal.sysctl("no.such.value") == ""


def test_its_answer_is_kept_as_long_as_nothing_changed() -> None:
    fingerprint = mlc_llm_metal.DEVICE.fingerprint()
    assert fingerprint
    assert fingerprint == mlc_llm_metal.DEVICE.fingerprint()
