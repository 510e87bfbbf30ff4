"""The vulkan device's reasons, with stub loaders that stand where the system's is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlc_llm_vulkan
import pytest

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Availability, Device
from mlc_llm.plugin.probing import probe
from mlc_llm.plugin.registry import Registry

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
    uint32_t head[5] = {0x403000, 1, 0x1002, 7, TYPE};
    memset(properties, 0, 824);
    memcpy(properties, head, sizeof head);
    snprintf(properties + sizeof head, 256, "Stub %d", (int)(intptr_t)device);
}
"""

Install = Callable[..., None]

needs_stub = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="the stub is built with cc"
)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Build a stub loader, and let child processes find it first."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))

    def build(init: int = 0, count: int = 1, kind: int = 2) -> None:
        source, library = tmp_path / "loader.c", tmp_path / "libvulkan.so.1"
        source.write_text(LOADER)
        values = [f"-DINIT={init}", f"-DCOUNT={count}", f"-DTYPE={kind}"]
        command = ["cc", "-shared", "-fPIC", *values, str(source), "-o", str(library)]
        subprocess.run(command, check=True)

    return build


def probed() -> Availability:
    return probe("vulkan", Registry(allowed=["mlc-llm-vulkan"]))


def test_it_is_a_device() -> None:
    device = Registry(allowed=["mlc-llm-vulkan"]).device("vulkan")
    assert device is mlc_llm_vulkan.DEVICE
    assert isinstance(device, Device)
    assert 0 < device.priority < 200
    assert not device.probe_in_process


def test_it_is_never_available_without_a_reason() -> None:
    availability = probed()
    assert not availability.available
    assert availability.reason


def test_using_it_raises_the_same_reason() -> None:
    reason = probe("vulkan").reason
    for use in (
        lambda: mlc_llm_vulkan.DEVICE.open(0),
        mlc_llm_vulkan.DEVICE.target,
        lambda: mlc_llm_vulkan.DEVICE.codegen({}, {}),
    ):
        with pytest.raises(DeviceError) as caught:
            use()
        assert reason[1:] in str(caught.value)


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert "the metal device's" in mlc_llm_vulkan.DEVICE.probe().reason


@pytest.mark.parametrize("gpu", [True, False])
def test_no_loader(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    def no_library(name: str) -> None:
        raise OSError("no such library")

    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("ctypes.CDLL", no_library)
    monkeypatch.setattr(mlc_llm_vulkan, "has_gpu", lambda: gpu)
    availability = mlc_llm_vulkan.DEVICE.probe()
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
        ({"count": 0}, "Vulkan finds no GPU"),
        ({"kind": 4}, "Vulkan finds no GPU but the software driver Stub 1"),
    ],
)
def test_a_driver_that_cannot_serve(install: Install, values: dict[str, int], reason: str) -> None:
    install(**values)
    assert reason in probed().reason


@needs_stub
def test_the_missing_runtime(install: Install) -> None:
    install(count=2)
    reason = probed().reason
    assert "Vulkan finds Stub 1, Stub 2, but apache-tvm's wheels have no Vulkan runtime" in reason


@needs_stub
def test_a_tvm_with_vulkan(install: Install, tmp_path: Path) -> None:
    install()
    library = tmp_path / "tvm" / "lib" / "libtvm_runtime_vulkan.so"
    library.parent.mkdir(parents=True)
    library.touch()
    (tmp_path / "tvm" / "__init__.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        assert "does not compile for it yet" in probed().reason


def test_its_answer_is_kept_as_long_as_nothing_changed() -> None:
    fingerprint = mlc_llm_vulkan.DEVICE.fingerprint()
    assert fingerprint
    assert fingerprint == mlc_llm_vulkan.DEVICE.fingerprint()
