"""The memory estimate, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlc_llm.errors import DeviceError
from mlc_llm.runtime import memory
from mlc_llm.runtime.metadata import LibraryMetadata
from mlc_llm.runtime.window import Window

from . import toy_library
from .conftest import Loader

GIB = 1 << 30


@pytest.fixture
def metadata() -> LibraryMetadata:
    """Llama-2-7B's geometry with float16 keys and values: half a MiB a token."""
    data: dict[str, Any] = toy_library.metadata()
    data["memory_usage"] = {"prefill": 100 << 20, "decode": 1 << 20}
    layer = {"query_heads": 32, "kv_heads": 32, "key_size": 128, "value_size": 128}
    data["kv_cache"] |= {"dtype": "float16", "layers": [layer] * 32}
    return LibraryMetadata.model_validate(data)


def window(size: int) -> Window:
    return Window(size, 512)


def test_the_parts_of_the_estimate(metadata: LibraryMetadata) -> None:
    need = memory.estimate(metadata, window(4096), 4 * GIB, 128 << 20)
    assert need.kv_bytes_per_token == 512 << 10
    assert need.kv_cache == 4096 * (512 << 10)
    assert need.weights == 4 * GIB + (128 << 20)
    assert need.workspace == 100 << 20


def test_what_fits_and_what_is_unknown_pass(metadata: LibraryMetadata) -> None:
    need = memory.estimate(metadata, window(4096), 4 * GIB, 0)
    memory.require(need, need.total, window(4096))
    memory.require(need, None, window(4096))


def test_the_message_names_a_window_that_fits(metadata: LibraryMetadata) -> None:
    need = memory.estimate(metadata, window(131072), 4 * GIB, 0)
    available = 8 * GIB
    with pytest.raises(DeviceError, match=r"8\.00 GiB are available.* for 131072 tokens") as error:
        memory.require(need, available, window(131072))
    fitting = need.fitting_window(available)
    assert f"ChatConfig(context_window_size={fitting})" in str(error.value)
    assert fitting > 4096
    memory.require(memory.estimate(metadata, window(fitting), 4 * GIB, 0), available, window(1))


def test_nothing_fits(metadata: LibraryMetadata) -> None:
    need = memory.estimate(metadata, window(4096), 4 * GIB, 0)
    with pytest.raises(DeviceError, match="take a smaller model"):
        memory.require(need, GIB, window(4096))


def test_a_model_that_cannot_fit_is_not_loaded(
    load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 1 << 20)
    with pytest.raises(DeviceError, match=r"needs about .* of memory and 1\.0 MiB are available"):
        load(context_window_size=1 << 20)


def test_available_memory_is_plausible() -> None:
    available = memory.available_memory()
    assert available is None or 1 << 20 < available < 1 << 50


def test_a_cgroup_is_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "cgroups" / "outer" / "inner"
    group.mkdir(parents=True)
    for folder, limit in ((group, "max"), (group.parent, str(4 * GIB))):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{3 * GIB}\n")
        (folder / "memory.stat").write_text(f"inactive_file {GIB}\nactive_file 5\nanon 7\n")
    (tmp_path / "self").write_text("0::/outer/inner\n")
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 8388608 kB\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr(memory, "_OWN_CGROUP", tmp_path / "self")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    assert memory.available_memory() == 2 * GIB + 5
    (tmp_path / "self").unlink()
    assert memory.available_memory() == 8 * GIB
    (tmp_path / "meminfo").write_text("nonsense")
    assert memory.available_memory() == memory._physical()
