"""Models in several GGUF files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlc_llm.errors import ConversionError
from mlc_llm.sources.gguf_parts import find_model, read_model
from mlc_llm.testing import raises

from .gguf_files import llama_metadata, llama_tensors, write_file

NAMES = [f"model-{number:05}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with a model of 21 tensors in three files."""
    tensors = llama_tensors("Q8_0")
    write_file(tmp_path / "model.gguf", tensors, llama_metadata(), split_max_tensors=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_any_file_stands_for_all(parts: Path, name: str) -> None:
    model = read_model(parts / name)
    assert model.path == parts / NAMES[0]
    assert model.metadata["general.architecture"] == "llama"
    assert set(model.tensors) == set(llama_tensors("Q8_0"))
    assert {file.name for file, _ in model.tensors.values()} == set(NAMES)


def test_a_folder_of_parts(parts: Path) -> None:
    assert find_model(parts) == parts / NAMES[0]
    (parts / "mmproj-model.gguf").write_bytes(b"GGUF")
    assert find_model(parts) == parts / NAMES[0]
    shutil.copy(parts / NAMES[0], parts / "other.gguf")
    with raises("source-ambiguous", parts, "other.gguf", NAMES[0], error=ConversionError):
        find_model(parts)


def test_a_missing_file(parts: Path) -> None:
    (parts / NAMES[1]).unlink()
    with raises("checkpoint-incomplete", parts, NAMES[1], error=ConversionError):
        read_model(parts / NAMES[0])


def test_files_that_were_exchanged(parts: Path) -> None:
    (parts / NAMES[1]).rename(parts / "x")
    (parts / NAMES[2]).rename(parts / NAMES[1])
    (parts / "x").rename(parts / NAMES[2])
    with raises("checkpoint-incomplete", parts / NAMES[1], "3 of 3", error=ConversionError):
        read_model(parts / NAMES[0])


def test_one_file_of_several_under_another_name(parts: Path) -> None:
    (parts / NAMES[0]).rename(parts / "model.gguf")
    with raises("checkpoint-incomplete", parts / "model.gguf", "1 of 3", error=ConversionError):
        read_model(parts / "model.gguf")


def test_a_tensor_in_two_files(parts: Path) -> None:
    tensors = llama_tensors("Q8_0")
    again = dict(list(tensors.items())[:8])
    metadata = {"split.no": 2, "split.count": 3}
    write_file(parts / NAMES[2], again, metadata)
    with raises("checkpoint-damaged", parts / NAMES[0], parts / NAMES[2], error=ConversionError):
        read_model(parts / NAMES[0])


def test_a_file_with_fewer_tensors(parts: Path) -> None:
    last = list(llama_tensors("Q8_0").items())[-2:]
    write_file(parts / NAMES[2], dict(last), {"split.no": 2, "split.count": 3})
    with raises("checkpoint-incomplete", 16, 21, error=ConversionError):
        read_model(parts / NAMES[0])


@pytest.mark.parametrize(
    "name", ["m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-99999.gguf"]
)
def test_a_number_that_cannot_be(parts: Path, name: str) -> None:
    (parts / NAMES[0]).rename(parts / name)
    with raises("checkpoint-damaged", parts / name, error=ConversionError):
        read_model(parts / name)
