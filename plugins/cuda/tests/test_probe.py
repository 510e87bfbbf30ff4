"""What the device says of drivers that are stubs, and of parts that are missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from mlc_llm_cuda import DEVICE, driver, management, parts, toolkit

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Availability, Device, Unavailable
from mlc_llm.registry.probing import probe, probe_here
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import raises

from .conftest import Stubs


def probed() -> Availability:
    return probe("cuda", Registry(allowed=["mlc-llm-cuda"]))


def test_it_is_a_device_of_the_highest_priority() -> None:
    device = Registry(allowed=["mlc-llm-cuda"]).device("cuda")
    assert device is DEVICE
    assert isinstance(device, Device)
    assert device.priority > 200
    assert not device.probe_in_process


def test_using_it_raises_the_reason_why_it_cannot_be_used() -> None:
    answer = probe("cuda")
    if answer.available:
        pytest.skip("there is a GPU")
    for use in (lambda: DEVICE.open(0), DEVICE.target):
        with raises("device-unavailable", answer.reason[1:], error=DeviceError):
            use()


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert probe_here(DEVICE) == Availability(reason="there is no CUDA for macOS")
    with raises("device-unavailable", "macOS", error=DeviceError):
        DEVICE.target_for(["90"])


@pytest.fixture
def no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Linux without NVIDIA's libraries and devices; the folder lists the PCI devices."""

    def fail(name: str, *_: Any) -> NoReturn:
        raise OSError("no such library")

    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.release", lambda: "6.1.0-18-amd64")
    monkeypatch.setattr("ctypes.CDLL", fail)
    monkeypatch.setattr(driver, "PCI_DEVICES", tmp_path / "pci")
    monkeypatch.setattr(driver, "WSL_DEVICE", tmp_path / "dxg")
    return tmp_path / "pci"


def test_hardware_without_a_driver(no_library: Path) -> None:
    lacking = probe_here(DEVICE)
    assert "lists no NVIDIA GPU" in lacking.reason
    assert lacking.remedy == ""
    card = no_library / "0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    broken = probe_here(DEVICE)
    assert "driver cannot be opened (no such library)" in broken.reason
    assert "Install NVIDIA's driver" in broken.remedy


def test_wsl_without_a_driver(no_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.release", lambda: "4.4.0-19041-Microsoft")
    assert "WSL 1" in probe_here(DEVICE).reason
    assert "--set-version" in probe_here(DEVICE).remedy
    monkeypatch.setattr("platform.release", lambda: "5.15.90.1-microsoft-standard-WSL2")
    driver.WSL_DEVICE.touch()
    second = probe_here(DEVICE)
    assert "driver cannot be opened" in second.reason
    assert "on Windows" in second.remedy


@pytest.mark.parametrize(
    ("values", "reason", "remedy"),
    [
        ({"init": 100}, "NVIDIA's driver finds no GPU", "nvidia-smi"),
        ({"capabilities": ""}, "NVIDIA's driver finds no GPU", "nvidia-smi"),
        ({"init": 999}, "cannot be initialised: the stub is upset (999)", "reboot"),
        ({"version": 12080}, "driver supports CUDA 12.8, and CUDA 13 is needed", "580"),
        ({"capabilities": "61,70"}, "(Stub 0: 6.1, Stub 1: 7.0); CUDA 13 needs 7.5", "[vulkan]"),
    ],
)
def test_a_driver_that_cannot_serve(
    stubs: Stubs, values: dict[str, Any], reason: str, remedy: str
) -> None:
    stubs.driver(**values)
    answer = probed()
    assert reason in answer.reason
    assert remedy in answer.remedy


@pytest.mark.parametrize("visible", ["", "-1", "7"])
def test_gpus_that_a_variable_hides(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    stubs.driver(init=100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    answer = probed()
    assert f"CUDA_VISIBLE_DEVICES is {visible!r}" in answer.reason
    assert "Unset CUDA_VISIBLE_DEVICES" in answer.remedy


def test_a_gpu_that_is_split_and_has_no_instance(stubs: Stubs) -> None:
    stubs.driver(init=100)
    stubs.management()
    answer = probed()
    assert answer.reason.startswith("Managed 1 is split into instances (MIG)")
    assert "nvidia-smi mig -cgi" in answer.remedy


def test_an_old_driver_is_named_by_its_version(stubs: Stubs) -> None:
    stubs.driver(version=12090)
    stubs.management()
    assert "driver 575.51.03 supports CUDA 12.9" in probed().reason


@pytest.mark.usefixtures("wheels")
def test_a_driver_that_tvm_cannot_use(stubs: Stubs) -> None:
    """CUDA's own runtime library asks the stub for more than it has."""
    stubs.driver(tvm=True)
    answer = probed()
    assert "TVM cannot use Stub 0" in answer.reason
    assert "nvidia-smi" in answer.remedy


@pytest.mark.usefixtures("wheels")
def test_a_driver_that_lacks_what_tvm_refers_to(stubs: Stubs) -> None:
    stubs.driver()
    assert "undefined symbol" in probed().reason


@pytest.mark.usefixtures("wheels")
def test_a_variable_that_keeps_tvm_from_its_backends(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs.driver(tvm=True)
    monkeypatch.setenv(parts.AUTOLOAD_VARIABLE, "0")
    assert f"{parts.AUTOLOAD_VARIABLE}=0" in probed().reason
    assert parts.AUTOLOAD_VARIABLE in probed().remedy


@pytest.mark.parametrize("name", toolkit.WHEELS)
def test_a_part_that_is_missing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file of NVIDIA's wheels in its turn: the package that it is of is named."""
    folder = tmp_path / f"cu{toolkit.MAJOR}"
    for other in toolkit.WHEELS:
        place = folder / ("lib" if other in toolkit.LIBRARIES else "include") / other
        place.parent.mkdir(parents=True, exist_ok=True)
        if other != name:
            place.touch()
    monkeypatch.setattr(toolkit, "toolkit_folders", lambda: [folder])
    monkeypatch.setattr(toolkit, "_opened", lambda _: None)

    def opened(path: str, *_: Any) -> None:
        if not Path(path).is_file():
            raise OSError("no such file")

    monkeypatch.setattr("ctypes.CDLL", opened)
    with pytest.raises(Unavailable) as caught:
        parts.require_toolkit()
    assert name in str(caught.value)
    assert f"{toolkit.WHEELS[name]}==13.0." in caught.value.availability.remedy


def test_a_tvm_without_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tvm").mkdir()
    (tmp_path / "tvm" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "tvm", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Unavailable, match="no CUDA runtime"):
        parts.require_tvm_runtime()


def test_gpus_that_are_too_old_are_passed_over(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index counts those that can be used, and TVM's device is the driver's."""
    import ctypes

    stubs.driver(capabilities="61,86")
    opened = ctypes.CDLL(str(stubs.folder / "libcuda.so.1"))
    (gpu,) = driver.find_gpus(opened)
    assert (gpu.ordinal, gpu.name, gpu.capability) == (1, "Stub 1", 86)
    assert gpu.memory == 80 << 30
    stubs.management()
    monkeypatch.setattr(management, "LIBRARY", str(stubs.folder / "libnvidia-ml.so.1"))
    from mlc_llm_cuda.device import described

    adapter = described(gpu, 0, management.driver_version())
    assert adapter.memory == 80 << 30
    assert adapter.details == {
        "compute capability": "8.6",
        "ordinal": "1",
        "free": "1.5 GiB",
        "driver": "575.51.03",
    }


def test_free_memory_is_left_out_where_it_is_not_known() -> None:
    assert management.free_memory("GPU-of-nothing") is None


def test_its_answer_is_kept_as_long_as_nothing_changed() -> None:
    fingerprint = DEVICE.fingerprint()
    assert fingerprint
    assert fingerprint == DEVICE.fingerprint()


def test_an_installed_driver_changes_the_fingerprint(stubs: Stubs) -> None:
    before = DEVICE.fingerprint()
    stubs.driver()
    assert DEVICE.fingerprint() != before
