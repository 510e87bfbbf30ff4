"""The memory estimate, and what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlc_llm import cgroup, host_memory
from mlc_llm.errors import DeviceError
from mlc_llm.plugin import AttentionSpec
from mlc_llm.runtime import memory
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.testing import raises
from mlc_llm.weights.folder import ModelFolder

from . import toy_library

GIB = 1 << 30


@pytest.fixture
def cache() -> KVCacheGeometry:
    """Llama-2-7B's geometry with float16 keys and values: half a MiB a token."""
    return KVCacheGeometry.of([AttentionSpec(32, 32, 128, 128, scale=1.0)] * 32, "float16")


def window(size: int) -> ContextWindow:
    return ContextWindow(size, 512)


def test_the_parts_of_the_estimate(cache: KVCacheGeometry) -> None:
    need = memory.estimate(cache, window(4096), 4 * GIB, 100 << 20)
    assert need.kv_bytes_per_token == 512 << 10
    assert need.kv_cache == 4096 * (512 << 10)
    assert need.total == need.kv_cache + 4 * GIB + (100 << 20)


def test_the_largest_weight_counts_twice(tmp_path: Path) -> None:
    folder = ModelFolder.open(toy_library.write_folder(tmp_path / "model"))
    largest = max(tensor.nbytes for tensor in folder.manifest.tensors.values())
    assert memory.weight_bytes(folder) == folder.total_bytes + largest


def test_what_fits_and_what_is_unknown_pass(cache: KVCacheGeometry) -> None:
    need = memory.estimate(cache, window(4096), 4 * GIB)
    memory.require(need, need.total, window(4096))
    memory.require(need, None, window(4096))


def test_the_message_names_a_window_that_fits(cache: KVCacheGeometry) -> None:
    need = memory.estimate(cache, window(131072), 4 * GIB)
    available = 8 * GIB
    with raises("memory-too-small", "8.00 GiB", 131072, error=DeviceError) as error:
        memory.require(need, available, window(131072))
    fitting = need.fitting_window(available)
    assert f"ChatConfig(context_window_size={fitting})" in str(error.value)
    assert fitting > 4096
    memory.require(memory.estimate(cache, window(fitting), 4 * GIB), available, window(1))


def test_nothing_fits(cache: KVCacheGeometry) -> None:
    need = memory.estimate(cache, window(4096), 4 * GIB)
    with raises("memory-too-small", "1.00 GiB", "smaller model", error=DeviceError):
        memory.require(need, GIB, window(4096))


def test_available_memory_is_plausible() -> None:
    available = host_memory.available_memory()
    assert available is None or 1 << 20 < available < 1 << 50


@pytest.mark.skipif(sys.platform == "win32", reason="names of files are bytes on POSIX")
def test_a_cgroup_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the locale's encoding is."""
    (tmp_path / "self").write_bytes(b"0::/gr\xc3\xbcn\xff\n")
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "self")
    assert os.fsencode(cgroup.own_groups()[0]).endswith(b"/gr\xc3\xbcn\xff")


def test_a_cgroup_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "cgroups" / "outer" / "inner"
    group.mkdir(parents=True)
    for folder, limit in ((group, "max"), (group.parent, str(4 * GIB))):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{3 * GIB}\n")
        (folder / "memory.stat").write_text(f"inactive_file {GIB}\nactive_file 5\nanon 7\n")
    (tmp_path / "self").write_text("0::/outer/inner\n")
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 8388608 kB\n")
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path / "cgroups")
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "self")
    monkeypatch.setattr(host_memory, "_MEMINFO", tmp_path / "meminfo")
    assert host_memory.available_memory() == 2 * GIB + 5
    assert host_memory.total_memory() == min(4 * GIB, host_memory._physical())
    (tmp_path / "self").unlink()
    assert host_memory.total_memory() == host_memory._physical()
    assert host_memory.available_memory() == 8 * GIB
    (tmp_path / "meminfo").write_text("nonsense")
    assert host_memory.available_memory() == host_memory._physical()
