"""Every type of a GGUF file against the gguf package: no code and no factor changes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from mlc_llm.errors import ConversionError
from mlc_llm.plugin.scheme import stored_tensors
from mlc_llm.quantization.codes import pack_codes
from mlc_llm.quantization.packing import dequantize
from mlc_llm.sources.gguf_parts import read_model
from mlc_llm.sources.gguf_tensor import GGUFTensor
from mlc_llm.sources.gguf_types import TYPE_NAMES, TYPES
from mlc_llm.testing import raises

from .gguf_files import FLOATS, HALVES, Array, random_blocks, random_matrix, values_of, write_file

REFUSED = sorted(one.name for one in TYPES.values() if not one.is_read)


def written(path: Path, kind: str, stored: Array) -> GGUFTensor:
    """A matrix, written into a file and found there."""
    model = read_model(write_file(path, {"w": (kind, stored)}))
    return GGUFTensor("weight", *model.tensors["w"])


def test_the_types_are_those_of_the_package() -> None:
    theirs = {kind.value: kind.name for kind in gguf.GGMLQuantizationType}
    assert theirs == TYPE_NAMES
    for kind, (weights, nbytes) in gguf.GGML_QUANT_SIZES.items():
        assert (TYPES[kind.name].weights, TYPES[kind.name].nbytes) == (weights, nbytes)
    assert {one.name for one in TYPES.values() if one.is_read} == {*HALVES, *FLOATS}


@pytest.mark.parametrize("kind", [*HALVES, *FLOATS])
def test_values(tmp_path: Path, kind: str) -> None:
    stored = random_matrix(kind, 6, 512)
    tensor, expected = written(tmp_path / "f", kind, stored), values_of(stored, kind)
    assert (tensor.shape, tensor.dtype, tensor.nbytes) == ((6, 512), kind, stored.nbytes)
    found = tensor.read()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(tensor.read(slice(2, 5)), expected[2:5])
    assert tensor.read(slice(6, 9)).shape == (0, 512)


@pytest.mark.parametrize("kind", HALVES)
def test_codes_are_kept(tmp_path: Path, kind: str) -> None:
    """What a scheme stores gives the very values that the package gives, from codes in range."""
    stored = random_blocks(kind, 6, 512)
    tensor = written(tmp_path / "f", kind, stored)
    scheme, codes = tensor.scheme, tensor.read_codes(slice(1, 6))
    assert scheme is not None
    assert codes.codes.dtype == np.uint8
    tensors = [*pack_codes(codes.codes, scheme), *codes.factors]
    wanted = stored_tensors("x.weight", ((5, scheme),), 512)
    assert [(t.shape, str(t.dtype)) for t in tensors] == [(w.shape, w.dtype) for w in wanted]
    np.testing.assert_array_equal(dequantize(tensors, 512, scheme), values_of(stored, kind)[1:])


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("byte", [0, 255])
def test_extreme_codes(tmp_path: Path, kind: str, byte: int) -> None:
    """Blocks of zeros and of ones, but for the floats."""
    stored = random_blocks(kind, 1, 256)
    blocks = np.full_like(stored, byte).reshape(-1, TYPES[kind].nbytes)
    for at in HALVES[kind]:
        blocks[:, at : at + 2] = np.array([1.5], "<f2").view(np.uint8)
    if kind == "MXFP4":
        blocks[:, 0] = 127
    stored = blocks.reshape(1, -1)
    tensor = written(tmp_path / "f", kind, stored)
    np.testing.assert_array_equal(tensor.read(), values_of(stored, kind))


@pytest.mark.parametrize("kind", ["Q4_1", "Q6_K", "F16"])
def test_rows_in_another_order(tmp_path: Path, kind: str) -> None:
    stored = random_matrix(kind, 8, 256)
    model = read_model(write_file(tmp_path / "f", {"w": (kind, stored)}))
    order = np.array([0, 2, 1, 3, 4, 6, 5, 7])
    tensor = GGUFTensor("weight", *model.tensors["w"], order=lambda rows: rows[order])
    expected = values_of(stored, kind)[order]
    np.testing.assert_array_equal(tensor.read(), expected)
    for first, last in [(0, 8), (1, 3), (5, 6), (3, 3), (6, 20)]:
        np.testing.assert_array_equal(tensor.read(slice(first, last)), expected[first:last])


def test_values_that_a_family_changes(tmp_path: Path) -> None:
    """As norms that llama.cpp has added 1 to."""
    stored = random_matrix("F32", 1, 256)[0]
    write_file(tmp_path / "f", {"w": ("F32", stored), "v": ("Q8_0", random_blocks("Q8_0", 1, 32))})
    tensors = read_model(tmp_path / "f").tensors
    tensor = GGUFTensor("weight", *tensors["w"], make=lambda w: w - 1)
    tensor.require_readable()
    np.testing.assert_array_equal(tensor.read(), stored - 1)
    np.testing.assert_array_equal(tensor.read(slice(3, 5)), stored[3:5] - 1)
    coded = GGUFTensor("weight", *tensors["v"], make=lambda w: w - 1)
    with raises("dtype-unsupported", "v", tmp_path / "f", "Q8_0", error=ConversionError):
        coded.require_readable()


def test_three_axes(tmp_path: Path) -> None:
    """As those of experts, one matrix each."""
    stored = random_blocks("Q5_K", 6, 256)
    expected = values_of(stored, "Q5_K").reshape(2, 3, 256)
    tensor = written(tmp_path / "f", "Q5_K", stored.reshape(2, 3, -1))
    assert tensor.shape == (2, 3, 256)
    np.testing.assert_array_equal(tensor.read(), expected)
    np.testing.assert_array_equal(tensor.read(slice(1, 2)), expected[1:])


@pytest.mark.parametrize(
    ("exponents", "dtype"),
    [
        ((104, 143), "float16"),
        ((103, 120), "float32"),
        ((120, 144), "float32"),
        ((0, 254), "float32"),
    ],
)
def test_scales_of_mxfp4_are_exact(tmp_path: Path, exponents: tuple[int, int], dtype: str) -> None:
    stored = random_blocks("MXFP4", 3, 64)
    blocks = stored.reshape(-1, 17)
    blocks[:2, 0] = exponents
    tensor = written(tmp_path / "f", "MXFP4", stored)
    assert tensor.scheme is not None
    assert tensor.scheme.dtype == dtype
    np.testing.assert_array_equal(tensor.read(), values_of(stored, "MXFP4"))


@pytest.mark.parametrize("kind", REFUSED)
def test_other_types_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    one = TYPES[kind]
    stored = np.zeros((2, 256 // one.weights * one.nbytes), np.uint8)
    path = _with_type(tmp_path / "g", kind, stored)
    tensor = GGUFTensor("weight", *read_model(path).tensors["w"])
    with raises("dtype-unsupported", "w", path, kind, "Q4_K", error=ConversionError):
        tensor.require_readable()


def _with_type(path: Path, kind: str, stored: Array) -> Path:
    """A file with a matrix of a type that NumPy has, which the package writes by itself."""
    native = {"I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F64": "<f8"}
    if kind not in native:
        return write_file(path, {"w": (kind, stored)})
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("w", np.zeros((2, 256), native[kind]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_scale_that_is_no_number(tmp_path: Path, value: float) -> None:
    stored = random_blocks("Q4_K", 2, 256)
    stored[1, 2:4] = np.array([value], "<f2").view(np.uint8)
    tensor = written(tmp_path / "f", "Q4_K", stored)
    with raises("weight-not-finite", "w", tmp_path / "f", error=ConversionError):
        tensor.read_codes()


def test_a_file_that_shrank_after_opening(tmp_path: Path) -> None:
    tensor = written(tmp_path / "f", "Q8_0", random_blocks("Q8_0", 4, 64))
    content = (tmp_path / "f").read_bytes()
    (tmp_path / "f").write_bytes(content[: tensor.entry.begin + 40])
    with raises("checkpoint-damaged", "w", tmp_path / "f", error=ConversionError):
        tensor.read_codes()
