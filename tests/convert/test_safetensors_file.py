"""Reading safetensors files against the library, and malformed ones."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from mlc_llm.convert.safetensors_file import read_header
from mlc_llm.errors import ConversionError
from mlc_llm.testing import raises


def _file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_equals_the_library(tmp_path):
    random = np.random.default_rng(0)
    tensors = {
        "matrix": random.standard_normal((7, 5), dtype=np.float32),
        "half": random.standard_normal((3, 2, 4)).astype(np.float16),
        "double": random.standard_normal(9),
        "empty": np.zeros((0, 4), np.float32),
        "ids": np.arange(4),
    }
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path, {"format": "np"})
    header = read_header(path)
    assert set(header) == set(tensors)
    for name, tensor in tensors.items():
        assert header[name].shape == tensor.shape
        if name != "ids":
            np.testing.assert_array_equal(header[name].read(), tensor.astype(np.float32))
    np.testing.assert_array_equal(header["matrix"].read(slice(2, 5)), tensors["matrix"][2:5])
    assert header["empty"].read(slice(0, 0)).shape == (0, 4)
    with raises("dtype-unsupported", "ids", "I64", "BF16, F16, F32, F64"):
        header["ids"].read()


def test_bfloat16_equals_torch(tmp_path, torch):
    import safetensors.torch

    value = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": value, "pad": value[:1].clone()}, path)
    tensor = read_header(path)["w"]
    assert tensor.dtype == "BF16"
    np.testing.assert_array_equal(tensor.read(), value.float().numpy())
    np.testing.assert_array_equal(tensor.read(slice(1, 3)), value[1:3].float().numpy())


def test_odd_offsets(tmp_path):
    value = np.arange(4, dtype="<f4")
    header = {"w": {"dtype": "F32", "shape": [4], "data_offsets": [1, 17]}}
    path = _file(tmp_path / "f", header, b"x" + value.tobytes())
    np.testing.assert_array_equal(read_header(path)["w"].read(), value)


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (b"{", ["JSON"]),
        (b"\xff", ["JSON"]),
        (b"[]", ["JSON object"]),
        ({"w": 1}, ["tensor w"]),
        ({"w": {**ENTRY, "shape": [2, -2]}}, ["shape.1", "tensor w"]),
        ({"w": {**ENTRY, "shape": [2, 3]}}, ["tensor w", 16, 24]),
        ({"w": {**ENTRY, "data_offsets": [16, 0]}}, ["tensor w", 16, 0]),
        ({"w": {**ENTRY, "data_offsets": [-8, 8]}}, ["tensor w", -8, 8]),
        ({"w": {**ENTRY, "data_offsets": [0]}}, ["data_offsets"]),
        ({"w": {**ENTRY, "data_offsets": [4, 20]}}, ["tensor w ends"]),
    ],
)
def test_malformed_header(tmp_path, header, named):
    path = _file(tmp_path / "model.safetensors", header, bytes(16))
    with raises("checkpoint-damaged", path, *named, error=ConversionError):
        read_header(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, struct.pack("<Q", 1 << 63), b"\xff" * 100])
def test_not_a_safetensors_file(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with raises("checkpoint-damaged", tmp_path / "f", "header"):
        read_header(tmp_path / "f")


def test_git_lfs_pointer(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with raises("lfs-pointer", path, "git lfs pull", error=ConversionError):
        read_header(path)


def test_a_file_that_shrank_after_opening(tmp_path):
    path = _file(tmp_path / "f", {"w": ENTRY}, bytes(16))
    tensor = read_header(path)["w"]
    path.write_bytes(path.read_bytes()[:-1])
    with raises("checkpoint-damaged", "w cannot", path):
        tensor.read()
