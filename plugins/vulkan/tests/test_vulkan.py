"""The vulkan device's reasons, with stub loaders that stand where the system's is found."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlc_llm_vulkan
import pytest
from mlc_llm_vulkan import loader, parts
from mlc_llm_vulkan.loader import PhysicalDevice

from mlc_llm.plugin import Availability, Device, Unavailable
from mlc_llm.registry.probing import probe, probe_here
from mlc_llm.registry.registry import Registry
from mlc_llm.testing import raises

LOADER = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
int vkCreateInstance(const void *info, const void *allocator, void **instance) {
    if (*(const int *)info != 1) return -3;
    *instance = (void *)42;
    return INIT;
}
void vkDestroyInstance(void *instance, const void *allocator) {}
int vkEnumeratePhysicalDevices(void *instance, uint32_t *count, void **devices) {
    if (instance != (void *)42) return -3;
    if (devices) for (intptr_t i = 0; i < COUNT; ++i) devices[i] = (void *)(i + 1);
    *count = COUNT;
    return 0;
}
void vkGetPhysicalDeviceProperties(void *device, char *properties) {
    uint32_t head[5] = {VERSION, 1, 0x1002, 7, 2};
    memset(properties, 0, 824);
    memcpy(properties, head, sizeof head);
    snprintf(properties + sizeof head, 256, "Stub %d", (int)(intptr_t)device);
}
void vkGetPhysicalDeviceMemoryProperties(void *device, char *properties) {
    /* The types, then heaps of 16 bytes: the host's, the device's own, its window to the host. */
    uint32_t count = 3, own = 1;
    uint64_t sizes[3] = {1ull << 36, 3ull << 30, 1 << 28};
    memset(properties, 0, 520);
    memcpy(properties + 260, &count, 4);
    for (int i = 0; i < 3; ++i) {
        memcpy(properties + 264 + 16 * i, &sizes[i], 8);
        if (i > 0) memcpy(properties + 264 + 16 * i + 8, &own, 4);
    }
}
"""

Install = Callable[..., Path]

needs_stub = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the stub is built with cc"
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Build a stub loader, and let child processes find it first."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    def build(init: int = 0, count: int = 1, version: int = 0x403001) -> Path:
        source, library = tmp_path / "loader.c", tmp_path / "libvulkan.so.1"
        source.write_text(LOADER)
        values = [f"-DINIT={init}", f"-DCOUNT={count}", f"-DVERSION={version}"]
        command = ["cc", "-shared", "-fPIC", *values, str(source), "-o", str(library)]
        subprocess.run(command, check=True)
        return library

    return build


def probed() -> Availability:
    return probe("vulkan", Registry(allowed=["mlc-llm-vulkan"]))


def test_it_is_a_device() -> None:
    device = Registry(allowed=["mlc-llm-vulkan"]).device("vulkan")
    assert device is mlc_llm_vulkan.DEVICE
    assert isinstance(device, Device)
    assert 0 < device.priority < 200
    assert not device.probe_in_process


@needs_stub
def test_using_it_raises_the_reason_why_it_is_not_available(install: Install) -> None:
    install(init=-9)
    code = (
        "import mlc_llm_vulkan\n"
        "for use in (mlc_llm_vulkan.DEVICE.open, mlc_llm_vulkan.DEVICE.target):\n"
        "    try:\n"
        "        use(0)\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 2, result.stderr
    for line in lines:
        assert line.startswith("DeviceError The device 'vulkan' is not available. There is a Vul")


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert "the metal device's" in probe_here(mlc_llm_vulkan.DEVICE).reason


@pytest.mark.parametrize("gpu", [True, False])
def test_no_loader(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    def no_library(name: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("ctypes.CDLL", no_library)
    monkeypatch.setattr(loader, "has_gpu", lambda: gpu)
    availability = probe_here(mlc_llm_vulkan.DEVICE)
    if gpu:
        assert "loader cannot be opened (no such library)" in availability.reason
        assert "mesa-vulkan-drivers" in availability.remedy
    else:
        assert "has no GPU" in availability.reason
        assert availability.remedy == ""


@needs_stub
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"init": -9}, "a Vulkan loader, but no driver"),
        ({"init": -4}, "cannot be initialised (VkResult -4)"),
        ({"count": 0}, "Vulkan's drivers find no device"),
        (
            {"count": 2, "version": 0x400123},
            "Vulkan 1.1 is needed, and the drivers are older (Stub 1: 1.0.291, Stub 2: 1.0.291)",
        ),
    ],
)
def test_a_driver_that_cannot_serve(install: Install, values: dict[str, int], reason: str) -> None:
    install(**values)
    assert probed().reason == reason or reason in probed().reason


@needs_stub
def test_what_the_loader_says_of_a_device(install: Install) -> None:
    found = loader.physical_devices(ctypes.CDLL(str(install())))
    assert found == [PhysicalDevice("Stub 1", 0x1002, 7, (1, 3, 1), 3 << 30)]
    loader.require_version(found)


@needs_stub
def test_a_device_that_wgpu_cannot_use(install: Install, vulkan: Availability) -> None:
    """The stub has none of what a real loader has beside it."""
    install()
    assert "wgpu-native cannot use what Vulkan finds: Stub 1" in probed().reason


@needs_stub
def test_a_tvm_with_vulkan(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    library = tmp_path / "tvm" / "lib" / "libtvm_runtime_vulkan.so"
    library.parent.mkdir(parents=True)
    library.touch()
    (tmp_path / "tvm" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "the installed TVM has a Vulkan of its own" in probed().reason


class TestWgpu:
    """The package wgpu, in a site of its own."""

    @pytest.fixture(autouse=True)
    def site(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        self.write("mlc_llm_vulkan", "9.0", "Requires-Dist: mlc-llm\nRequires-Dist: wgpu==1.2.3\n")

    def write(self, name: str, version: str, more: str = "") -> None:
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
        (info / "METADATA").write_text(head + more)

    def reason(self) -> Availability:
        with pytest.raises(Unavailable) as caught:
            parts.require_wgpu()
        return caught.value.availability

    def test_missing(self) -> None:
        answer = self.reason()
        assert "wgpu, which it runs on, is not installed" in answer.reason
        assert answer.remedy == "Install it: python -m pip install wgpu==1.2.3"

    def test_another_version(self) -> None:
        self.write("wgpu", "1.2.4")
        answer = self.reason()
        assert "wgpu is version 1.2.4, and mlc-llm-vulkan is built for 1.2.3" in answer.reason
        assert answer.remedy == "Install it: python -m pip install wgpu==1.2.3"

    def test_no_library_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write("wgpu", "1.2.3")
        monkeypatch.delitem(sys.modules, "wgpu", raising=False)
        assert "has no wgpu-native library" in self.reason().reason
        (self.folder / "wgpu" / "resources").mkdir(parents=True)
        (self.folder / "wgpu" / "__init__.py").touch()
        (self.folder / "wgpu" / "resources" / "libwgpu_native-release.so").touch()
        parts.require_wgpu()


def test_a_tvm_that_is_told_to_load_no_backends(
    vulkan: Availability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TVM_DEVICE_BACKEND_AUTOLOAD", "0")
    answer = probed()
    assert "AUTOLOAD=0 keeps TVM from loading backends" in answer.reason
    assert answer.remedy == "Unset TVM_DEVICE_BACKEND_AUTOLOAD."


def test_importing_tvm_imports_nothing_of_mlc_llm() -> None:
    code = (
        "import sys, tvm\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('mlc_llm', 'wgpu')])"
    )
    variables = {**os.environ, "TVM_USE_RUNTIME_LIB": "1", "TVM_FFI_DISABLE_TORCH_C_DLPACK": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_an_index_that_does_not_exist(vulkan: Availability) -> None:
    count = len(vulkan.adapters)
    with raises("device-index-unknown", f"'vulkan:{count}'", "vulkan:0 ("):
        mlc_llm_vulkan.DEVICE.target(count)
    with raises("device-index-unknown", "vulkan:0"):
        mlc_llm_vulkan.DEVICE.open(-1)


def test_its_answer_is_kept_as_long_as_nothing_changed() -> None:
    fingerprint = mlc_llm_vulkan.DEVICE.fingerprint()
    assert "mlc_llm_vulkan/device.py" in fingerprint.replace("\\", "/")
    assert fingerprint == mlc_llm_vulkan.DEVICE.fingerprint()
