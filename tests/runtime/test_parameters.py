"""A folder's parameters against a library's, and the library's own consistency."""

from __future__ import annotations

import json
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.errors import LibraryError, ModelFolderError
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.metadata import LibraryMetadata
from mlc_llm.runtime.parameters import check_parameters
from mlc_llm.testing import raises
from mlc_llm.weights.folder import ModelFolder

from . import toy_library
from .conftest import WINDOW


def altered(folder: Path, change: Any) -> ModelFolder:
    """The folder with its manifest changed."""
    path = folder / "tensor-cache.json"
    manifest = json.loads(path.read_text())
    change(manifest["records"][0]["records"])
    path.write_text(json.dumps(manifest))
    return ModelFolder.open(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_library.write_folder(tmp_path / "model")


@pytest.fixture
def metadata() -> LibraryMetadata:
    return LibraryMetadata.model_validate(toy_library.metadata())


def test_symbolic_sizes_are_bound(folder: Path, metadata: LibraryMetadata) -> None:
    assert check_parameters(metadata.params, ModelFolder.open(folder), "toy in q0f32") == {
        "vocab_size": 64
    }


def test_what_differs_is_named(folder: Path, metadata: LibraryMetadata) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        records[0]["dtype"] = "int32"
        records[1]["name"] = "layers.0.query.weight"
        records[2]["shape"] = [32, 128]

    parts = (
        "embed.weight is int32",
        "layers.0.qkv.weight is missing",
        "layers.0.query.weight is not",
        "layers.0.out.weight has the shape (32, 128)",
        "(64, 64)",
        "toy in q0f32",
        folder,
    )
    with raises("weights-mismatch", *parts, error=ModelFolderError):
        check_parameters(metadata.params, altered(folder, change), "toy in q0f32")


def test_symbolic_sizes_must_agree(folder: Path) -> None:
    data = toy_library.metadata()
    data["params"][2]["shape"] = ["vocab_size", 64]
    data["params"][1]["shape"] = [128, "vocab_size"]
    data["params"][4]["shape"] = ["n", "n"]
    check_parameters(
        LibraryMetadata.model_validate(data).params, ModelFolder.open(folder), "toy in q0f32"
    )
    data["params"][3]["shape"] = ["vocab_size", 64]  # it has 128 rows
    with raises("weights-mismatch", "layers.1.qkv.weight", "(128, 64)", "(64, 64)"):
        check_parameters(
            LibraryMetadata.model_validate(data).params, ModelFolder.open(folder), "toy in q0f32"
        )


def test_a_vocabulary_larger_than_the_weights(folder: Path, metadata: LibraryMetadata) -> None:
    toy_library.write_folder(folder, vocab_size=65)
    with raises("weights-mismatch", 64, "vocab_size=65"):
        check_parameters(metadata.params, ModelFolder.open(folder), "toy in q0f32")


def test_metadata_that_cannot_be_read() -> None:
    for text in ("", "[]", "{}", '{"model_type": 1}'):
        with raises("library-damaged", "lib.so", error=LibraryError):
            LibraryMetadata.parse(text, "lib.so")


def test_every_parameter_is_repacked_once() -> None:
    data = toy_library.metadata()
    data["repack"].append({"function": None, "inputs": ["embed.weight"], "outputs": ["again"]})
    data["repack"][1]["inputs"] = ["other"]
    with raises("library-damaged", "lib.so", "embed.weight, layers.0.qkv"):
        LibraryMetadata.parse(json.dumps(data), "lib.so")


def test_files_that_are_no_library(folder: Path, tmp_path: Path) -> None:
    import tvm

    for content in (b"", b"no library", None):
        path = tmp_path / "wrong.so"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with raises("library-damaged", path, error=LibraryError):
            LoadedModel.load(path, ModelFolder.open(folder), tvm.cpu(), WINDOW)


@pytest.mark.parametrize("name", ["embed", "prefill", "replay", "score", "decode", "batch_decode"])
def test_a_library_without_a_function(
    folder: Path, tmp_path: Path, toy_path: Path, name: str
) -> None:
    """That is said before the weights, which may be large, are read."""
    import tvm

    library = tmp_path / f"without-{name}.so"
    library.write_bytes(toy_library.renamed(toy_path.read_bytes(), name))
    opened = ModelFolder.open(folder)
    (folder / "params_shard_0.bin").unlink()
    with raises("library-damaged", library, f"'{name}'", error=LibraryError):
        LoadedModel.load(library, opened, tvm.cpu(), WINDOW)


def test_loading_releases_the_inputs(folder: Path, toy_path: Path) -> None:
    """The repacked weights are what is kept: the folder may be changed or go afterwards."""
    import tvm

    opened = ModelFolder.open(folder)
    model = LoadedModel.load(toy_path, opened, tvm.cpu(), WINDOW)
    opened.close()
    before = model.feed([1, 2, 3]).copy()
    with (folder / "params_shard_0.bin").open("r+b") as file:
        file.write(bytes(4096))
    model.reset()
    np.testing.assert_array_equal(model.feed([1, 2, 3]), before)


def test_loading_is_stopped(folder: Path, toy_path: Path) -> None:
    """An interrupt while the weights are uploaded takes effect at the next step."""
    import tvm

    stop = Stop()
    stop.set()
    with pytest.raises(CancelledError):
        LoadedModel.load(toy_path, ModelFolder.open(folder), tvm.cpu(), WINDOW, stop=stop)
    LoadedModel.load(toy_path, ModelFolder.open(folder), tvm.cpu(), WINDOW, stop=Stop()).feed([1])


def test_loading_is_stopped_between_steps(
    folder: Path, toy_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tvm

    stop, read = Stop(), ModelFolder.read
    names: list[str] = []

    def interrupted(opened: ModelFolder, name: str) -> Any:
        names.append(name)
        stop.set()
        return read(opened, name)

    monkeypatch.setattr(ModelFolder, "read", interrupted)
    with pytest.raises(CancelledError):
        LoadedModel.load(toy_path, ModelFolder.open(folder), tvm.cpu(), WINDOW, stop=stop)
    assert names == toy_library.metadata()["repack"][0]["inputs"]


def test_a_library_that_makes_something_else(folder: Path, toy_path: Path, tmp_path: Path) -> None:
    import tvm

    wrong = tmp_path / "wrong.so"
    said = json.dumps(toy_library.metadata()["repack"][1]["dtypes"]).encode()
    content = toy_path.read_bytes()
    assert content.count(said) == 4
    wrong.write_bytes(content.replace(said, said.replace(b'"float32"', b"         ")))
    with raises("library-damaged", "1 tensors", "1 of 0 dtypes"):
        LoadedModel.load(wrong, ModelFolder.open(folder), tvm.cpu(), WINDOW)
