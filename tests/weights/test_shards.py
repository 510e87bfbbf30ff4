"""Writing shards, and reading them back without copies."""

import hashlib
import mmap
import os
import threading

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from mlc_llm.testing import raises
from mlc_llm.weights.journal import JOURNAL_FILE, Journal
from mlc_llm.weights.manifest import Manifest, ShardRecord, TensorRecord
from mlc_llm.weights.shard_writer import SHARD_BYTES, ShardWriter
from mlc_llm.weights.shards import Shards, md5sum, widen_bfloat16

dtypes = st.sampled_from(["float16", "float32", "uint32", "int8"])
arrays = dtypes.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0)))


@given(values=st.lists(arrays, min_size=1, max_size=8), limit=st.integers(1, 2000))
def test_what_is_written_is_read(tmp_path_factory, values, limit):
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, limit=limit) as writer:
        for index, value in enumerate(values):
            writer.add(f"t{index}", value.shape, str(value.dtype), [value])
        manifest = writer.finish({})
    shards = Shards(folder, manifest)
    shards.verify()
    assert len({shard.file for shard in manifest.shards}) == len(list(folder.iterdir()))
    for index, value in enumerate(values):
        read = shards.read(manifest.tensors[f"t{index}"])
        assert (read.shape, read.dtype) == (value.shape, value.dtype)
        assert read.tobytes() == value.tobytes()
    for shard in manifest.shards:
        assert shard.nbytes <= limit + 64 or len([t for t in shard.tensors if t.nbytes]) == 1


def test_sharding_like_mlc(tmp_path):
    """A tensor above the limit has a shard of its own; the order of the tensors is kept."""
    with ShardWriter(tmp_path, limit=100) as writer:
        for name, size in (("a", 40), ("b", 300), ("c", 30), ("d", 30), ("e", 90)):
            writer.add(name, (size,), "uint8", [np.zeros(size, np.uint8)])
        manifest = writer.finish({})
    held = [[tensor.name for tensor in shard.tensors] for shard in manifest.shards]
    assert held == [["a"], ["b"], ["c", "d"], ["e"]]
    files = [shard.file for shard in manifest.shards]
    assert files == [f"params_shard_{index}.bin" for index in range(4)]
    assert SHARD_BYTES == 32 * 1024 * 1024


def test_blocks_of_any_shape_and_order(tmp_path):
    value = np.arange(60, dtype=np.float32).reshape(6, 10)
    with ShardWriter(tmp_path) as writer:
        writer.add("rows", (6, 10), "float32", [value[:1], value[1:4], value[4:]])
        writer.add("fortran", (6, 10), "float32", [np.asfortranarray(value)])
        manifest = writer.finish({})
    shards = Shards(tmp_path, manifest)
    for name in ("rows", "fortran"):
        np.testing.assert_array_equal(shards.read(manifest.tensors[name]), value)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([np.zeros(3, np.float32)], "12 bytes for the shape"),
        ([np.zeros(5, np.float32)], "20 bytes for the shape"),
        ([np.zeros(4, np.float64)], "a block of float64, not float32"),
        ([np.zeros(4, ">f4")], "a block of >f4, not float32"),
    ],
)
def test_blocks_that_do_not_fit(tmp_path, blocks, message):
    with ShardWriter(tmp_path) as writer, pytest.raises(ValueError, match=message):
        writer.add("w", (4,), "float32", blocks)


def test_existing_files_are_not_overwritten(tmp_path):
    (tmp_path / "params_shard_0.bin").write_bytes(b"precious")
    with ShardWriter(tmp_path) as writer, pytest.raises(FileExistsError):
        writer.add("w", (1,), "float32", [np.zeros(1, np.float32)])
    assert (tmp_path / "params_shard_0.bin").read_bytes() == b"precious"


def test_a_shard_that_is_not_complete_is_removed(tmp_path):
    journal = Journal(tmp_path)
    values = [np.full(60, index, np.uint8) for index in range(3)]
    with ShardWriter(tmp_path, limit=100, journal=journal) as writer:
        writer.add("a", (60,), "uint8", [values[0]])
        with pytest.raises(ValueError, match="10 bytes for the shape"):
            writer.add("b", (60,), "uint8", [values[1][:10]])
    assert {path.name for path in tmp_path.iterdir()} == {"params_shard_0.bin", JOURNAL_FILE}
    journal = Journal.read(tmp_path)
    with ShardWriter(tmp_path, limit=100, journal=journal) as writer:
        assert [writer.has(name) for name in "ab"] == [True, False]
        for name, value in zip("abc", values, strict=True):
            writer.add(name, (60,), "uint8", [value])
        manifest = writer.finish({})
    assert list(Journal.read(tmp_path).shards) == list(manifest.shards)
    shards = Shards(tmp_path, manifest)
    shards.verify()
    for name, value in zip("abc", values, strict=True):
        np.testing.assert_array_equal(shards.read(manifest.tensors[name]), value)


def _one_tensor(folder, content, **fields):
    (folder / "s.bin").write_bytes(content)
    record = TensorRecord(name="w", shard="s.bin", **fields)
    return Shards(folder, Manifest((ShardRecord("s.bin", len(content), None, (record,)),))), record


def test_bfloat16_is_widened(tmp_path, torch):
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    content = values.view(torch.int16).numpy().tobytes()
    shards, record = _one_tensor(
        tmp_path,
        content,
        shape=(4, 6),
        dtype="float32",
        offset=0,
        nbytes=48,
        format="f32-to-bf16",
    )
    read = shards.read(record)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values.float().numpy())


def test_every_bfloat16_is_widened_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    wide = widen_bfloat16(bits)
    assert wide.shape == bits.shape
    np.testing.assert_array_equal(wide.view(np.uint32) >> 16, bits)
    np.testing.assert_array_equal(wide.view(np.uint32) & 0xFFFF, 0)


def test_a_tensor_at_an_odd_address_is_aligned(tmp_path):
    content = b"\0" + np.arange(5, dtype="<f4").tobytes()
    shards, record = _one_tensor(
        tmp_path, content, shape=(5,), dtype="float32", offset=1, nbytes=20
    )
    read = shards.read(record)
    assert read.flags.aligned
    np.testing.assert_array_equal(read, np.arange(5))


def test_reading_does_not_copy(tmp_path):
    value = np.arange(100, dtype=np.float32)
    shards, record = _one_tensor(
        tmp_path, value.tobytes(), shape=(100,), dtype="float32", offset=0, nbytes=400
    )
    first, second = shards.read(record), shards.read(record)
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1
    shards.close()
    np.testing.assert_array_equal(first, value)  # the view keeps its map
    np.testing.assert_array_equal(shards.read(record), value)  # and the shard is mapped again


def test_a_shard_that_shrank_after_opening(tmp_path):
    shards, record = _one_tensor(
        tmp_path, bytes(400), shape=(100,), dtype="float32", offset=0, nbytes=400
    )
    shards.check()
    (tmp_path / "s.bin").write_bytes(bytes(100))
    with raises("weights-damaged", 100, 400):
        shards.read(record)


def test_many_threads_map_one_shard_once(tmp_path):
    shards, record = _one_tensor(
        tmp_path, bytes(4000), shape=(1000,), dtype="float32", offset=0, nbytes=4000
    )
    found = []
    threads = [threading.Thread(target=lambda: found.append(shards.read(record))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.shares_memory(found[0], array) for array in found)


def test_md5sum_reports_what_it_read(tmp_path):
    content = np.random.default_rng(0).bytes(3_000_000)
    (tmp_path / "f").write_bytes(content)
    read = []
    assert md5sum(tmp_path / "f", read.append) == hashlib.md5(content).hexdigest()
    assert sum(read) == len(content)
    assert len(read) > 1


@pytest.fixture
def few_open_files():
    """A process that may have 30 files more than it has."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def _many(folder, count):
    with ShardWriter(folder, limit=1) as writer:
        for index in range(count):
            writer.add(f"t{index}", (5,), "float32", [np.full(5, index, np.float32)])
        return writer.finish({})


def test_more_shards_than_files_may_be_open(tmp_path, few_open_files):
    manifest = _many(tmp_path, 200)
    shards = Shards(tmp_path, manifest)
    shards.check()
    shards.verify()
    for index in [*range(200), *reversed(range(200))]:
        record = manifest.tensors[f"t{index}"]
        assert (shards.read(record) == index).all()
        shards.forget(record)


def test_a_view_outlives_the_maps_of_other_shards(tmp_path):
    manifest = _many(tmp_path, 9)
    shards = Shards(tmp_path, manifest)
    views = [shards.read(record) for record in manifest.tensors.values()]
    shards.close()
    for record in manifest.tensors.values():
        shards.forget(record)
    assert [view[0] for view in views] == list(range(9))


@pytest.mark.parametrize("left", [0, 1, 19])
def test_a_shard_that_is_cut_short_after_it_was_read(tmp_path, left):
    manifest = _many(tmp_path, 1)
    shards, record = Shards(tmp_path, manifest), manifest.tensors["t0"]
    shards.read(record)
    os.truncate(tmp_path / record.shard, left)
    with raises("weights-damaged", left, 20):
        shards.read(record)


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_shard_that_is_cut_short_while_it_is_mapped(tmp_path, monkeypatch, cut):
    manifest = _many(tmp_path, 1)
    record, map_file = manifest.tensors["t0"], mmap.mmap

    def cutting(*arguments, **named):
        if cut == "before":
            os.truncate(tmp_path / record.shard, 7)
        mapped = map_file(*arguments, **named)
        os.truncate(tmp_path / record.shard, 7)
        return mapped

    monkeypatch.setattr(mmap, "mmap", cutting)
    with raises({"before": "file-unreadable", "after": "weights-damaged"}[cut], record.shard):
        Shards(tmp_path, manifest).read(record)
