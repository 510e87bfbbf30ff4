"""Where weights go: one slab for many, aligned, and views of what is mapped."""

from __future__ import annotations

import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import tvm

from mlc_llm.runtime import device_memory
from mlc_llm.runtime.device_memory import ALIGNMENT, DeviceMemory, HostMemory, on_host
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.manifest import Manifest, ShardRecord, TensorRecord
from mlc_llm.weights.shards import Shards

from . import toy_library

Kind = HostMemory | DeviceMemory
RNG = np.random.default_rng(0)


@pytest.fixture(params=["host", "device"])
def memory(request: pytest.FixtureRequest) -> Kind:
    """Either kind; the CPU stands for a device as well."""
    return HostMemory() if request.param == "host" else DeviceMemory(tvm.cpu())


@pytest.mark.parametrize("dtype", ["uint8", "uint32", "float16", "float32"])
def test_tensors_are_apart_and_keep_what_they_are_given(memory: Kind, dtype: str) -> None:
    arrays = [RNG.integers(0, 100, shape).astype(dtype) for shape in [(3,), (5, 7), (1, 2, 3)]]
    kept = [memory.keep(array) for array in arrays]
    lent = [memory.lend(array) for array in arrays]
    fresh = memory.empty((4, 5), dtype)
    fresh.copyfrom(np.ones((4, 5), dtype))
    for array, *tensors in zip(arrays, kept, lent, strict=True):
        for tensor in tensors:
            assert (tuple(tensor.shape), str(tensor.dtype)) == (array.shape, dtype)
            np.testing.assert_array_equal(tensor.numpy(), array)


def test_the_hosts_tensors_are_aligned() -> None:
    memory = HostMemory()
    for size in (1, 63, 64, 65):
        assert np.from_dlpack(memory.empty((size,), "uint8")).ctypes.data % ALIGNMENT == 0


def test_a_slab_grows_with_a_large_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_memory, "SLAB_BYTES", 1 << 12)
    memory = HostMemory()
    tensors = [memory.keep(np.full(size, size, np.float32)) for size in (100, 900, 5000, 7)]
    for tensor in tensors:
        np.testing.assert_array_equal(tensor.numpy(), tensor.shape[0])


def test_what_is_aligned_is_lent_where_it_is() -> None:
    """Also when it is read-only, as mapped files are; what is not aligned is copied."""
    buffer = np.frombuffer(mmap.mmap(-1, 4096), np.uint32)
    for begin, shared in ((0, True), (1, False), (16, True)):
        array = buffer[begin : begin + 32]
        array.flags.writeable = False
        tensor = HostMemory().lend(array)
        assert (np.from_dlpack(tensor).ctypes.data == array.ctypes.data) is shared


def test_tensors_outlive_the_memory_they_came_from() -> None:
    memory = HostMemory()
    tensor = memory.keep(np.arange(1000))
    del memory
    gc.collect()
    np.testing.assert_array_equal(tensor.numpy(), np.arange(1000))


def test_the_cpu_is_the_host() -> None:
    assert on_host(tvm.cpu())
    assert not on_host(tvm.device("cuda"))


def test_what_is_forgotten_is_read_again(tmp_path: Path) -> None:
    with ModelFolder.open(toy_library.write_folder(tmp_path / "model")) as folder:
        for name, array in toy_library.parameters().items():
            read = folder.read(name)
            np.testing.assert_array_equal(read, array)
            folder.forget(name)
            folder.forget(name)
            np.testing.assert_array_equal(read, array)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux")
def test_mapped_files_do_not_stay_in_memory(tmp_path: Path) -> None:
    size = 8 << 20
    (tmp_path / "shard.bin").write_bytes(os.urandom(size))
    record = TensorRecord("t", (size,), "uint8", "shard.bin", 0, size)
    shards = Shards(tmp_path, Manifest((ShardRecord("shard.bin", size, None, (record,)),)))
    before = mapped_bytes()
    assert shards.read(record).any()
    assert shards.read(record).max() == 255
    assert mapped_bytes() - before > size // 2
    shards.forget(record)
    assert mapped_bytes() - before < size // 2


def mapped_bytes() -> int:
    """Bytes of files that count as this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile:"))
