"""Model folders: good ones, and every way in which one may be wrong."""

import json

import numpy as np
import pytest

from mlc_llm.errors import ModelFolderError, ModelNotFoundError
from mlc_llm.testing import raises
from mlc_llm.weights.folder import ModelFolder

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n"


def test_open_and_read(model_folder, tensors):
    with ModelFolder.open(model_folder) as folder:
        assert folder.path == model_folder
        assert folder.config.model_type == "llama"
        assert list(folder.manifest.tensors) == list(tensors)
        assert folder.total_bytes == sum(array.nbytes for array in tensors.values())
        for name, array in tensors.items():
            read = folder.read(name)
            assert (read.shape, read.dtype) == (array.shape, array.dtype)
            np.testing.assert_array_equal(read, array)
        folder.verify()


def test_verify_reports_its_progress(model_folder):
    folder = ModelFolder.open(model_folder)
    read = []
    folder.verify(read.append)
    assert sum(read) == sum(shard.nbytes for shard in folder.manifest.shards)


def test_the_older_name_of_the_manifest(model_folder, tensors):
    (model_folder / "tensor-cache.json").rename(model_folder / "ndarray-cache.json")
    assert set(ModelFolder.open(model_folder).manifest.tensors) == set(tensors)


def test_the_newer_manifest_comes_first(model_folder, tensors):
    (model_folder / "ndarray-cache.json").write_text("not even JSON")
    assert set(ModelFolder.open(str(model_folder)).manifest.tensors) == set(tensors)


def test_unknown_tensor(model_folder):
    with raises("tensor-missing", "'nothing'", error=ModelFolderError):
        ModelFolder.open(model_folder).read("nothing")


def test_no_folder(tmp_path):
    with raises("model-not-found", tmp_path / "nowhere", error=ModelNotFoundError):
        ModelFolder.open(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with raises("model-not-found", tmp_path / "file", error=ModelNotFoundError):
        ModelFolder.open(tmp_path / "file")


def test_no_config(model_folder):
    (model_folder / "mlc-chat-config.json").unlink()
    with raises("folder-incomplete", "mlc-chat-config.json", "mlc_llm gen_config"):
        ModelFolder.open(model_folder)


def test_a_hugging_face_folder(model_folder):
    (model_folder / "mlc-chat-config.json").rename(model_folder / "config.json")
    with raises("model-not-converted", "mlc_llm convert_weight", "mlc_llm gen_config"):
        ModelFolder.open(model_folder)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "file-empty"),
        ("{", "json-malformed"),
        ("[1]", "json-malformed"),
        ('{"model_type": "llama"}', "model-config-invalid"),
    ],
)
def test_malformed_config(model_folder, content, code):
    (model_folder / "mlc-chat-config.json").write_text(content)
    with raises(code, "mlc-chat-config.json", error=ModelFolderError):
        ModelFolder.open(model_folder)


def test_no_manifest(model_folder):
    (model_folder / "tensor-cache.json").unlink()
    with raises("folder-incomplete", "tensor-cache.json", "mlc_llm convert_weight"):
        ModelFolder.open(model_folder)


def test_missing_shard(model_folder):
    (model_folder / "params_shard_1.bin").unlink()
    with raises("shard-missing", "params_shard_1.bin", error=ModelFolderError):
        ModelFolder.open(model_folder)


def test_a_folder_in_place_of_a_shard(model_folder):
    (model_folder / "params_shard_1.bin").unlink()
    (model_folder / "params_shard_1.bin").mkdir()
    with raises("shard-missing", "params_shard_1.bin", error=ModelFolderError):
        ModelFolder.open(model_folder)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_shard_of_another_size(model_folder, change):
    path = model_folder / "params_shard_0.bin"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"x")
    with raises("weights-damaged", path, len(content) + change, len(content)):
        ModelFolder.open(model_folder)


@pytest.mark.parametrize(
    "name", ["params_shard_1.bin", "tokenizer.json", "mlc-chat-config.json", "tensor-cache.json"]
)
def test_git_lfs_pointers(model_folder, name):
    (model_folder / name).write_text(LFS_POINTER)
    with raises("lfs-pointer", model_folder / name, "git lfs pull", error=ModelFolderError):
        ModelFolder.open(model_folder)


def test_an_altered_shard_is_found_by_its_checksum(model_folder):
    path = model_folder / "params_shard_0.bin"
    content = bytearray(path.read_bytes())
    content[17] ^= 1
    path.write_bytes(content)
    folder = ModelFolder.open(model_folder)  # sizes are right
    with raises("weights-damaged", "params_shard_0.bin", "MD5"):
        folder.verify()


def test_a_manifest_without_checksums(model_folder):
    path = model_folder / "tensor-cache.json"
    data = json.loads(path.read_text())
    for shard in data["records"]:
        del shard["md5sum"]
    path.write_text(json.dumps(data))
    ModelFolder.open(model_folder).verify()


def test_a_published_folder_without_its_shards(test_data):
    folder = test_data / "mlc" / "weights" / "Qwen2.5-0.5B-Instruct-q4f16_1-MLC"
    with raises("shard-missing", "params_shard_0.bin"):
        ModelFolder.open(folder)


@pytest.mark.parametrize("config", ["of its time", "of today"])
def test_a_folder_of_2023(model_folder, config):
    """Its tensors have numbers, and its configuration says nothing of the architecture."""
    manifest = json.loads((model_folder / "tensor-cache.json").read_text())
    tensors = [record for shard in manifest["records"] for record in shard["records"]]
    for number, record in enumerate(tensors):
        record["name"] = f"param_{number}"
    (model_folder / "tensor-cache.json").unlink()
    (model_folder / "ndarray-cache.json").write_text(json.dumps(manifest))
    if config == "of its time":
        text = json.dumps({"model_lib": "vicuna-v1-7b-q3f16_0", "conv_template": "vicuna_v1.1"})
        (model_folder / "mlc-chat-config.json").write_text(text)
    with raises("folder-outdated", model_folder, "param_0", "mlc_llm convert_weight"):
        ModelFolder.open(model_folder)


def test_another_folder_without_an_architecture_is_not_of_2023(model_folder):
    (model_folder / "mlc-chat-config.json").write_text('{"conv_template": "LM"}')
    with raises("model-config-invalid", "model_type"):
        ModelFolder.open(model_folder)
