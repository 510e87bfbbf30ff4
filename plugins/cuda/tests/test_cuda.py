"""The cuda device's reasons, with stub drivers that stand where the loader finds NVIDIA's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlc_llm_cuda
import pytest

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Availability, Device, Unavailable
from mlc_llm.registry.probing import probe, probe_here
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import raises

DRIVER = """
#include <stdio.h>
#include <stddef.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int d) { snprintf(name, size, "Stub %d", d); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)80 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : 0;
    return 0;
}
int cuGetErrorString(int status, const char **text) { *text = "the stub is upset"; return 0; }
"""

Install = Callable[..., None]

needs_stub = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the stub is built with cc"
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Build stub libraries, and let child processes find them first."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    def build(init: int = 0, count: int = 1, version: int = 13000, cudart: bool = False) -> None:
        source = tmp_path / "driver.c"
        source.write_text(DRIVER)
        values = [f"-DINIT={init}", f"-DCOUNT={count}", f"-DVERSION={version}"]
        for name in ["libcuda.so.1", *(["libcudart.so.13"] if cudart else [])]:
            command = ["cc", "-shared", "-fPIC", *values, str(source), "-o", str(tmp_path / name)]
            subprocess.run(command, check=True)

    return build


def probed() -> Availability:
    return probe("cuda", Registry(allowed=["mlc-llm-cuda"]))


def test_it_is_a_device_of_the_highest_priority() -> None:
    device = Registry(allowed=["mlc-llm-cuda"]).device("cuda")
    assert device is mlc_llm_cuda.DEVICE
    assert isinstance(device, Device)
    assert device.priority > 200
    assert not device.probe_in_process


def test_it_is_never_available_without_a_reason() -> None:
    availability = probed()
    assert not availability.available
    assert availability.reason


def test_using_it_raises_the_same_reason() -> None:
    reason = probe("cuda").reason
    for use in (
        lambda: mlc_llm_cuda.DEVICE.open(0),
        mlc_llm_cuda.DEVICE.target,
        lambda: mlc_llm_cuda.DEVICE.codegen({}, {}),
    ):
        with raises("device-unavailable", reason[1:], error=DeviceError):
            use()


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert probe_here(mlc_llm_cuda.DEVICE) == Availability(reason="there is no CUDA for macOS")


def test_hardware_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(mlc_llm_cuda, "PCI_DEVICES", tmp_path)
    monkeypatch.setattr("ctypes.CDLL", _no_library)
    lacking = probe_here(mlc_llm_cuda.DEVICE)
    assert "lists no NVIDIA GPU" in lacking.reason
    assert lacking.remedy == ""
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    broken = probe_here(mlc_llm_cuda.DEVICE)
    assert "driver cannot be opened (no such library)" in broken.reason
    assert "Install NVIDIA's driver" in broken.remedy


def _no_library(name: str) -> None:
    raise OSError("no such library")


@needs_stub
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"init": 100}, "NVIDIA's driver finds no GPU"),
        ({"count": 0}, "NVIDIA's driver finds no GPU"),
        ({"init": 999}, "cannot be initialised: the stub is upset (999)"),
        ({"version": 12080}, "supports CUDA 12.8, and CUDA 13 is needed"),
    ],
)
def test_a_driver_that_cannot_serve(install: Install, values: dict[str, int], reason: str) -> None:
    install(**values)
    availability = probed()
    assert reason in availability.reason
    assert availability.remedy


@needs_stub
def test_the_missing_runtime_library(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("ctypes.CDLL", _no_library)
    with pytest.raises(Unavailable) as caught:
        mlc_llm_cuda.require_cudart()
    assert "libcudart.so.13 cannot be found" in str(caught.value)
    assert "pip install nvidia-cuda-runtime" in caught.value.availability.remedy


def test_the_runtime_library_in_its_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("ctypes.CDLL", _no_library)
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    library = tmp_path / "nvidia" / "cu13" / "lib" / "libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    mlc_llm_cuda.require_cudart()


def test_a_tvm_without_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tvm").mkdir()
    (tmp_path / "tvm" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "tvm", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Unavailable, match="no CUDA runtime"):
        mlc_llm_cuda.require_tvm_runtime()


@needs_stub
def test_where_nothing_is_missing_it_says_that_it_does_not_compile_yet(install: Install) -> None:
    install(count=2, cudart=True)
    availability = probed()
    assert availability.reason == (
        "this version of mlc-llm-cuda finds Stub 0 (sm_90), Stub 1 (sm_90), "
        "but does not compile for it yet"
    )


def test_its_answer_is_kept_as_long_as_nothing_changed() -> None:
    fingerprint = mlc_llm_cuda.DEVICE.fingerprint()
    assert fingerprint
    assert fingerprint == mlc_llm_cuda.DEVICE.fingerprint()


@needs_stub
def test_an_installed_driver_changes_the_fingerprint(install: Install) -> None:
    before = mlc_llm_cuda.DEVICE.fingerprint()
    install()
    assert mlc_llm_cuda.DEVICE.fingerprint() != before
