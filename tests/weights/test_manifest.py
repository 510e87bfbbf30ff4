"""Manifests: real ones, ours read by TVM's own reader, and malformed ones."""

import copy
import hashlib
import json

import numpy as np
import pytest

from mlc_llm.errors import ModelFolderError
from mlc_llm.testing import raises
from mlc_llm.weights.manifest import Manifest, TensorRecord

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n"


@pytest.mark.parametrize(
    "file",
    [
        "Qwen2.5-0.5B-Instruct-q4f16_1-MLC/ndarray-cache.json",
        "tensor-cache-example/tensor-cache.json",
    ],
)
def test_published_manifests(test_data, file):
    path = test_data / "mlc" / "weights" / file
    manifest = Manifest.load(path)
    raw = json.loads(path.read_text())
    assert len(manifest.tensors) == raw["metadata"]["ParamSize"] == 267
    assert manifest.total_bytes == raw["metadata"]["ParamBytes"]
    assert [shard.md5 for shard in manifest.shards] == [r["md5sum"] for r in raw["records"]]
    first = manifest.tensors["model.embed_tokens.q_weight"]
    assert first.shape == (151936, 112)
    assert (first.dtype, first.shard, first.offset) == ("uint32", "params_shard_0.bin", 0)
    assert not first.narrowed  # the format says bf16, but only of float32
    norm = manifest.tensors["model.norm.weight"]
    assert (norm.dtype, norm.nbytes) == ("float16", 1792)


def test_round_trip(test_data):
    path = test_data / "mlc" / "weights" / "tensor-cache-example" / "tensor-cache.json"
    manifest = Manifest.load(path)
    assert Manifest.parse(json.loads(manifest.dump()), "again") == manifest
    assert json.loads(manifest.dump()) == json.loads(path.read_text())


def test_tvm_reads_what_is_written(model_folder, tensors):
    import tvm

    tvm.get_global_func("vm.builtin.tensor_cache.load")(str(model_folder), 1, 0)
    for name, array in tensors.items():
        loaded = tvm.get_global_func("vm.builtin.tensor_cache.get")(name)
        assert loaded.dtype == str(array.dtype)
        np.testing.assert_array_equal(loaded.numpy(), array)
    tvm.get_global_func("vm.builtin.tensor_cache.clear")()


def test_what_is_written(model_folder):
    data = json.loads((model_folder / "tensor-cache.json").read_text())
    assert data["metadata"] == {"ParamSize": 5}
    for shard in data["records"]:
        content = (model_folder / shard["dataPath"]).read_bytes()
        assert shard["format"] == "raw-shard"
        assert shard["nbytes"] == len(content)
        assert shard["md5sum"] == hashlib.md5(content).hexdigest()
        assert all(record["byteOffset"] % 64 == 0 for record in shard["records"])


def test_narrowed_records():
    record = TensorRecord("w", (3, 5), "float32", "s", 0, 30, "f32-to-bf16")
    assert record.narrowed
    assert record.stored_nbytes() == 30


VALID = {
    "metadata": {},
    "records": [
        {
            "dataPath": "params_shard_0.bin",
            "format": "raw-shard",
            "nbytes": 32,
            "md5sum": "0" * 32,
            "records": [
                {
                    "name": name,
                    "shape": [2, 2],
                    "dtype": "float32",
                    "format": "raw",
                    "nbytes": 16,
                    "byteOffset": offset,
                }
                for name, offset in (("a", 0), ("b", 16))
            ],
        }
    ],
}


def test_valid():
    assert list(Manifest.parse(VALID, "x").tensors) == ["a", "b"]


def _delete(*path):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def _set(*path_and_value):
    *path, last, value = path_and_value

    def change(data):
        for key in path:
            data = data[key]
        data[last] = value

    return change


SHARD = ("records", 0)
TENSOR = (*SHARD, "records", 1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_delete("records"), ["records"]),
        (_set("records", {}), ["records", "list"]),
        (_set("records", []), ["tensors"]),
        (_delete(*SHARD, "dataPath"), ["dataPath"]),
        (_delete(*SHARD, "nbytes"), ["nbytes"]),
        (_set(*SHARD, "nbytes", "32"), ["nbytes", "integer"]),
        (_set(*SHARD, "nbytes", -1), ["nbytes", "greater"]),
        (_set(*SHARD, "format", "zip"), ["params_shard_0.bin", "'zip'"]),
        (_set(*SHARD, "dataPath", "../../etc/passwd"), ["../../etc/passwd"]),
        (_set(*SHARD, "dataPath", "/etc/passwd"), ["/etc/passwd"]),
        (_set(*SHARD, "dataPath", "C:\\x.bin"), ["x.bin", "outside"]),
        (_set(*SHARD, "dataPath", "a\\..\\..\\x.bin"), ["x.bin", "outside"]),
        (_set(*SHARD, "dataPath", "."), ["outside"]),
        (_set(*SHARD, "dataPath", ""), ["dataPath"]),
        (_delete(*TENSOR, "name"), ["name"]),
        (_delete(*TENSOR, "shape"), ["shape"]),
        (_delete(*TENSOR, "byteOffset"), ["byteOffset"]),
        (_set(*TENSOR, "name", "a"), ["tensor 'a'", "twice"]),
        (_set(*TENSOR, "shape", [2, -2]), ["shape.1", "greater"]),
        (_set(*TENSOR, "shape", [2, 2.5]), ["shape.1", "integer"]),
        (_set(*TENSOR, "shape", [2, 3]), ["b", 16, "(2, 3)", 24]),
        (_set(*TENSOR, "shape", [1 << 40, 1 << 40]), ["shape", 1 << 40]),
        (_set(*TENSOR, "shape", [0, 1 << 62, 1 << 62]), ["shape", 1 << 62]),
        (_set(*TENSOR, "shape", [1] * 2 + [2] * 2 + [1] * 30), ["shape", "(1, 1, 2, 2"]),
        (_set(*TENSOR, "dtype", "float8_e4m3fn"), ["dtype", "'float8_e4m3fn'"]),
        (_set(*TENSOR, "dtype", "object"), ["dtype", "'object'"]),
        (_set(*TENSOR, "format", "gz"), ["format", "'gz'"]),
        (_set(*TENSOR, "format", "f32-to-bf16"), [16, 8]),
        (_set(*TENSOR, "byteOffset", 17), ["params_shard_0.bin", 33, 32]),
        (_set(*TENSOR, "byteOffset", -16), ["byteOffset", "greater"]),
        (_set(*TENSOR, "byteOffset", 1 << 70), ["byteOffset"]),
        (_set(*TENSOR, "byteOffset", 8), ["'a' and 'b'", "overlap"]),
    ],
)
def test_malformed(change, named):
    data = copy.deepcopy(VALID)
    change(data)
    with raises("manifest-malformed", "tensor-cache.json", *named, error=ModelFolderError):
        Manifest.parse(data, "tensor-cache.json")


def test_long_values_are_cut_short():
    shard = [(*SHARD, name) for name in ("format", "dataPath", "md5sum")]
    for path in (*shard, (*TENSOR, "dtype"), (*TENSOR, "format"), (*TENSOR, "name")):
        data = copy.deepcopy(VALID)
        _set(*path, "../" + "x" * 100_000)(data)
        _set(*TENSOR, "byteOffset", 8)(data)
        with pytest.raises(ModelFolderError) as caught:
            Manifest.parse(data, "x")
        assert len(str(caught.value)) < 1000


def test_one_shard_twice():
    data = copy.deepcopy(VALID)
    data["records"].append({**data["records"][0], "records": []})
    with raises("manifest-malformed", "params_shard_0.bin"):
        Manifest.parse(data, "x")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file-empty"),
        (b'{"records": [', "json-malformed"),
        (b"\xff\xfe{}", "json-malformed"),
        (b"[]", "json-malformed"),
        (b"9" * 10_000, "json-malformed"),
        (b"[" * 200_000, "json-malformed"),
        (LFS_POINTER.encode(), "lfs-pointer"),
    ],
)
def test_not_json(tmp_path, content, code):
    path = tmp_path / "tensor-cache.json"
    path.write_bytes(content)
    with raises(code, path, error=ModelFolderError):
        Manifest.load(path)
