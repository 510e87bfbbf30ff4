"""Checkpoints in torch's files, against the same ones in safetensors."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.numpy

from mlc_llm.convert import convert_weight
from mlc_llm.errors import ConversionError
from mlc_llm.sources import open_source
from mlc_llm.testing import make_checkpoint, raises

INDEX = "pytorch_model.bin.index.json"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A checkpoint in safetensors."""
    return make_checkpoint(tmp_path / "plain")


@pytest.fixture
def state(plain: Path, torch: Any) -> dict[str, Any]:
    """Its tensors in torch, by name."""
    tensors = safetensors.numpy.load_file(plain / "model.safetensors")
    return {name: torch.from_numpy(value) for name, value in tensors.items()}


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """The checkpoint without its weights."""
    copied = shutil.copytree(plain, tmp_path / "torch")
    (copied / "model.safetensors").unlink()
    return copied


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equals_safetensors(
    plain: Path, folder: Path, state: dict[str, Any], torch: Any, tmp_path: Path
) -> None:
    torch.save(state, folder / "pytorch_model.bin")
    for source in (plain, folder):
        convert_weight(source, "q4f16_1", tmp_path / f"out-{source.name}")
    assert content(tmp_path / "out-torch") == content(tmp_path / "out-plain")


def test_several_files(
    plain: Path, folder: Path, state: dict[str, Any], torch: Any, tmp_path: Path
) -> None:
    names, files = sorted(state), {}
    for number, some in enumerate((names[::2], names[1::2]), 1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: state[name] for name in some}, folder / file)
        files |= dict.fromkeys(some, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert set(open_source(folder).tensors()) == set(state)
    convert_weight(folder, "q0f16", tmp_path / "out")
    convert_weight(plain, "q0f16", tmp_path / "plain-out")
    assert content(tmp_path / "out") == content(tmp_path / "plain-out")
    (folder / "pytorch_model-00002-of-00002.bin").unlink()
    with raises("checkpoint-incomplete", "pytorch_model-00002", INDEX, error=ConversionError):
        open_source(folder).tensors()


def test_bfloat16(folder: Path, torch: Any) -> None:
    value = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.save({"w": value}, folder / "pytorch_model.bin")
    tensor = open_source(folder).tensors()["w"]
    assert (tensor.dtype, tensor.shape, tensor.nbytes) == ("bfloat16", (6, 3), 36)
    assert (tensor.read() == value.float().numpy()).all()
    assert (tensor.read(slice(1, 3)) == value[1:3].float().numpy()).all()


def test_whole_numbers_are_refused(folder: Path, torch: Any) -> None:
    torch.save({"w": torch.arange(3)}, folder / "pytorch_model.bin")
    tensor = open_source(folder).tensors()["w"]
    with raises("dtype-unsupported", "w", folder, "int64", error=ConversionError):
        tensor.read()


class Evil:
    """What runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_code_is_not_run(folder: Path, torch: Any, tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(3), "x": Evil(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with raises("checkpoint-damaged", folder / "pytorch_model.bin", error=ConversionError):
        open_source(folder).tensors()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Evil(tmp_path / "mark"), file)
    with raises("checkpoint-damaged", folder / "pytorch_model.bin", error=ConversionError):
        open_source(folder).tensors()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("value", [[1, 2], {"w": 3}, {1: None}])
def test_no_table_of_tensors(folder: Path, torch: Any, value: Any) -> None:
    torch.save(value, folder / "pytorch_model.bin")
    with raises("checkpoint-damaged", folder / "pytorch_model.bin", error=ConversionError):
        open_source(folder).tensors()


def test_a_tensor_of_no_values(folder: Path, torch: Any) -> None:
    torch.save({"w": torch.empty(2, device="meta")}, folder / "pytorch_model.bin")
    with raises("checkpoint-damaged", folder / "pytorch_model.bin", error=ConversionError):
        open_source(folder).tensors()


def test_a_tensor_that_is_larger_than_its_file(folder: Path, torch: Any) -> None:
    """All its rows are one, as a file may say that was made to fill the memory."""
    shape = (1 << 20, 1 << 20)
    torch.save({"w": torch.zeros(1).expand(shape)}, folder / "pytorch_model.bin")
    with raises("checkpoint-damaged", "w", str(shape), 4 << 40, error=ConversionError):
        open_source(folder).tensors()


def test_a_pickle_that_names_nothing(folder: Path, torch: Any) -> None:
    """Its machine looks up what is not there: torch raises a KeyError."""
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02h\x07.")
        archive.writestr("archive/version", b"3\n")
    with raises(
        "checkpoint-damaged", folder / "pytorch_model.bin", "KeyError", error=ConversionError
    ):
        open_source(folder).tensors()


def test_a_file_that_changes_is_not_read(folder: Path, state: dict[str, Any], torch: Any) -> None:
    """It is mapped: a page that is not there any more would end the process."""
    path = folder / "pytorch_model.bin"
    torch.save(state, path)
    tensors = open_source(folder).tensors()
    os.truncate(path, 0)
    for tensor in tensors.values():
        with raises("checkpoint-damaged", path, tensor.name, error=ConversionError):
            tensor.read(slice(0, 1))


@pytest.mark.parametrize("length", [0, 10, 1000])
def test_cut_short(folder: Path, state: dict[str, Any], torch: Any, length: int) -> None:
    path = folder / "pytorch_model.bin"
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:length])
    with raises("checkpoint-damaged", path, error=ConversionError):
        open_source(folder).tensors()


def test_without_torch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"PK\3\4" + bytes(100))
    monkeypatch.setitem(sys.modules, "torch", None)
    with raises(
        "torch-missing", folder / "pytorch_model.bin", "pip install", error=ConversionError
    ):
        open_source(folder).tensors()
