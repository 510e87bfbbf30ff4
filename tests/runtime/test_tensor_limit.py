"""Adapters that cannot hold tensors of any size."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlc_llm.errors import DeviceError
from mlc_llm.plugin import Adapter, AttentionSpec
from mlc_llm.runtime import memory
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.memory import require_kv_cache, require_parameters
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.testing import raises
from mlc_llm.weights.folder import ModelFolder

from . import toy_library


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder.open(toy_library.write_folder(tmp_path / "model"))


def largest(folder: ModelFolder) -> int:
    return max(tensor.nbytes for tensor in folder.manifest.tensors.values())


def test_a_parameter_may_have_as_much_as_the_adapter_takes(folder: ModelFolder) -> None:
    for limit in (None, largest(folder)):
        require_parameters(folder, Adapter("card", largest_tensor=limit))


def test_a_parameter_that_is_too_large_is_named_with_both_sizes(folder: ModelFolder) -> None:
    size = largest(folder)
    adapter = Adapter("card", largest_tensor=size - 1)
    sizes = (memory.readable(size), memory.readable(size - 1))
    with raises("tensor-too-large", *sizes, "card", error=DeviceError) as caught:
        require_parameters(folder, adapter)
    names = [name for name, item in folder.manifest.tensors.items() if item.nbytes == size]
    assert any(name in str(caught.value) for name in names)


def test_the_window_that_is_said_to_fit_fits_and_not_much_more_does() -> None:
    cache = KVCacheGeometry.of([AttentionSpec(4, 2, 16, 16, scale=1.0)] * 2, "float32")
    adapter = Adapter("card", largest_tensor=64 << 10)
    with raises("window-too-large", 1 << 20, "card", error=DeviceError) as caught:
        require_kv_cache(cache, ContextWindow(1 << 20, 64), adapter)
    found = re.search(r"context_window_size=(\d+)\)", str(caught.value))
    assert found
    fitting = int(found[1])
    require_kv_cache(cache, ContextWindow(fitting, 64), adapter)
    with raises("window-too-large", "card", error=DeviceError):
        require_kv_cache(cache, ContextWindow(fitting + 128, 64), adapter)


@pytest.mark.parametrize(
    ("left", "adapter", "expected"),
    [
        (5, Adapter("a", memory=9), 5),
        (None, Adapter("a", memory=9), 9),
        (None, Adapter("a", memory=9, shares_memory=True), 7),
        (None, Adapter("a", shares_memory=True), 7),
        (None, Adapter("a"), None),
    ],
)
def test_what_counts_as_available(
    monkeypatch: pytest.MonkeyPatch, left: int | None, adapter: Adapter, expected: int | None
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 7)
    handle = SimpleNamespace(dlpack_device_type=lambda: 7, available_global_memory=left)
    assert memory.available_on(adapter, handle) == expected
    if left is None:
        assert memory.available_on(adapter) == expected
