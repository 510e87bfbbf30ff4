"""Reading safetensors files against the library, and malformed ones."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.errors import ConversionError
from mlc_llm.sources.rows import read_rows
from mlc_llm.sources.safetensors_file import LONGEST_HEADER, read_header
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
    header = {
        "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "F32", "shape": [4], "data_offsets": [1, 17]},
    }
    path = _file(tmp_path / "f", header, b"x" + value.tobytes())
    np.testing.assert_array_equal(read_header(path)["w"].read(), value)


ENTRY = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
MALFORMED = {
    "no JSON": b"{",
    "no text": b"\xff",
    "a list": b"[]",
    "nested deeply": b'{"w":' + b"[" * 10_000,
    "UTF-16": json.dumps({"w": ENTRY}).encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps({"w": ENTRY}).encode(),
    "half a character": json.dumps({"\ud800": ENTRY}).encode(),
    "no entry": {"w": 1},
    "a negative size": {"w": {**ENTRY, "shape": [2, -2]}},
    "another size": {"w": {**ENTRY, "shape": [2, 3]}},
    "a size that is not whole": {"w": {**ENTRY, "shape": [2.0, 2]}},
    "a size beyond counting": {"w": {**ENTRY, "shape": [2**40, 2**40]}},
    "an unknown dtype": {"w": {**ENTRY, "dtype": "Q4"}},
    "offsets backwards": {"w": {**ENTRY, "data_offsets": [16, 0]}},
    "negative offsets": {"w": {**ENTRY, "data_offsets": [-8, 8]}},
    "one offset": {"w": {**ENTRY, "data_offsets": [0]}},
    "a field twice": b'{"w": {"dtype":"F32","dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    "bytes of nothing before": {"w": {**ENTRY, "shape": [2], "data_offsets": [8, 16]}},
    "bytes of nothing after": {"w": {**ENTRY, "shape": [2], "data_offsets": [0, 8]}},
    "bytes of two": {"w": ENTRY, "v": ENTRY},
    "metadata of numbers": {"__metadata__": {"format": 1}, "w": ENTRY},
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_malformed_header(tmp_path, header):
    path = _file(tmp_path / "model.safetensors", header, bytes(16))
    with raises("checkpoint-damaged", path, error=ConversionError):
        read_header(path)


def test_cut_short(tmp_path):
    header = {"__metadata__": {"format": "pt"}, "w": ENTRY}
    path = _file(tmp_path / "model.safetensors", header, bytes(15))
    size = path.stat().st_size
    with raises("checkpoint-damaged", size + 1, size, error=ConversionError):
        read_header(path)


def test_a_header_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", LONGEST_HEADER + 1))
        file.truncate(2 * LONGEST_HEADER)
    monkeypatch.setattr(json, "loads", pytest.fail)
    with raises("checkpoint-damaged", path, LONGEST_HEADER, error=ConversionError):
        read_header(path)


@given(st.binary(max_size=3), st.integers(0, 200), st.booleans())
def test_what_the_library_refuses_is_refused(tmp_path_factory, change, at, inserted):
    """A header with other bytes at some place: both take it, with the same tensors, or neither."""
    entries = {
        "w": ENTRY,
        "half": {"dtype": "BF16", "shape": [3], "data_offsets": [16, 22]},
    }
    text = json.dumps(entries).encode()
    at %= len(text)
    text = text[:at] + change + text[at + (0 if inserted else len(change)) :]
    path = _file(tmp_path_factory.mktemp("header") / "f", text, bytes(22))
    try:
        with safetensors.safe_open(path, "numpy") as file:
            wanted = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError:
        with pytest.raises(ConversionError):
            read_header(path)
    else:
        found = read_header(path)
        assert {name: list(tensor.shape) for name, tensor in found.items()} == wanted
        assert all(8 + len(text) <= tensor.begin <= tensor.end for tensor in found.values())


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


@pytest.mark.parametrize("shape", [(0, 2**62, 2**62), (0, *[1] * 70)])
def test_an_empty_tensor_of_a_shape_that_no_array_has(tmp_path, shape):
    with raises("checkpoint-damaged", "x", error=ConversionError):
        read_rows("x", tmp_path / "file", 0, "float32", shape, ...)
