"""A folder's parameters against a library's, and the library's own consistency."""

from __future__ import annotations

import json
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.config import ModelFile
from mlc_llm.errors import ConfigError, LibraryError, ModelFolderError
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.metadata import LibraryMetadata
from mlc_llm.runtime.parameters import check_parameters
from mlc_llm.runtime.window import WINDOWS_KEPT, Window
from mlc_llm.weights.folder import ModelFolder

from . import toy_library


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
    assert check_parameters(metadata, ModelFolder.open(folder)) == {"vocab_size": 64}


def test_what_differs_is_named(folder: Path, metadata: LibraryMetadata) -> None:
    def change(records: list[dict[str, Any]]) -> None:
        records[0]["dtype"] = "int32"
        records[1]["name"] = "layers.0.query.weight"
        records[2]["shape"] = [32, 128]

    with pytest.raises(ModelFolderError) as error:
        check_parameters(metadata, altered(folder, change))
    for part in (
        "embed.weight is int32, not float32",
        "layers.0.qkv.weight is missing",
        "layers.0.query.weight is not known to the library",
        "layers.0.out.weight has the shape (32, 128), not (64, 64)",
        "toy q0f32",
        str(folder),
    ):
        assert part in str(error.value)


def test_symbolic_sizes_must_agree(folder: Path) -> None:
    data = toy_library.metadata()
    data["params"][2]["shape"] = ["vocab_size", 64]
    data["params"][1]["shape"] = [128, "vocab_size"]
    data["params"][4]["shape"] = ["n", "n"]
    check_parameters(LibraryMetadata.model_validate(data), ModelFolder.open(folder))
    data["params"][3]["shape"] = ["vocab_size", 64]  # it has 128 rows
    with pytest.raises(
        ModelFolderError, match=r"layers.1.qkv.weight .*\(128, 64\), not \(64, 64\)"
    ):
        check_parameters(LibraryMetadata.model_validate(data), ModelFolder.open(folder))


def test_a_vocabulary_larger_than_the_weights(folder: Path, metadata: LibraryMetadata) -> None:
    toy_library.write_folder(folder, vocab_size=65)
    with pytest.raises(ModelFolderError, match=r"64 rows of vocabulary.*vocab_size=65"):
        check_parameters(metadata, ModelFolder.open(folder))


def test_metadata_that_cannot_be_read() -> None:
    for text in ("", "[]", "{}", '{"model_type": 1}'):
        with pytest.raises(LibraryError, match=r"metadata of the library lib\.so cannot be read"):
            LibraryMetadata.parse(text, "lib.so")


def test_every_parameter_is_repacked_once() -> None:
    data = toy_library.metadata()
    data["repack"].append({"function": None, "inputs": ["embed.weight"], "outputs": ["again"]})
    data["repack"][1]["inputs"] = ["other"]
    with pytest.raises(LibraryError, match=r"exactly once: embed.weight, layers.0.qkv"):
        LibraryMetadata.parse(json.dumps(data), "lib.so")


def test_files_that_are_no_library(folder: Path, tmp_path: Path) -> None:
    import tvm

    for content in (b"", b"no library", None):
        path = tmp_path / "wrong.so"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LibraryError, match=r"wrong\.so cannot be loaded"):
            LoadedModel.load(path, ModelFolder.open(folder), tvm.cpu())


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
    with pytest.raises(LibraryError, match=rf"without-{name}\.so lacks the function '{name}'"):
        LoadedModel.load(library, opened, tvm.cpu())


def test_loading_releases_the_inputs(folder: Path, toy_path: Path) -> None:
    """The repacked weights are what is kept: the folder may be changed or go afterwards."""
    import tvm

    opened = ModelFolder.open(folder)
    model = LoadedModel.load(toy_path, opened, tvm.cpu())
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
        LoadedModel.load(toy_path, ModelFolder.open(folder), tvm.cpu(), stop=stop)
    LoadedModel.load(toy_path, ModelFolder.open(folder), tvm.cpu(), stop=Stop()).feed([1])


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
        LoadedModel.load(toy_path, ModelFolder.open(folder), tvm.cpu(), stop=stop)
    assert names == toy_library.metadata()["repack"][0]["inputs"]


def test_a_library_that_makes_something_else(folder: Path, toy_path: Path, tmp_path: Path) -> None:
    import tvm

    wrong = tmp_path / "wrong.so"
    said = json.dumps(toy_library.metadata()["repack"][1]["dtypes"]).encode()
    content = toy_path.read_bytes()
    assert content.count(said) == 4
    wrong.write_bytes(content.replace(said, said.replace(b'"float32"', b"         ")))
    with pytest.raises(LibraryError, match=r"makes 1 tensors .* 1 of 0 dtypes"):
        LoadedModel.load(wrong, ModelFolder.open(folder), tvm.cpu())


class TestWindow:
    def choose(self, metadata: LibraryMetadata, **config: Any) -> Window:
        base = {
            "model_type": "toy",
            "quantization": "q0f32",
            "model_config": {},
            "vocab_size": 48,
            "conv_template": "LM",
        }
        return Window.choose(ModelFile.model_validate({**base, **config}), metadata)

    def test_sizes_come_from_the_configuration_then_the_library(
        self, metadata: LibraryMetadata
    ) -> None:
        assert self.choose(metadata) == Window(96, 32)
        chosen = self.choose(metadata, context_window_size=50, prefill_chunk_size=64)
        assert chosen == Window(50, 50)
        silent = metadata.model_copy(update={"context_window_size": -1, "prefill_chunk_size": -1})
        assert self.choose(silent, context_window_size=5000).chunk == 2048
        with pytest.raises(ConfigError, match="Neither context_window_size nor sliding_window"):
            self.choose(silent)

    def test_a_sliding_window_is_compiled_in(self, metadata: LibraryMetadata) -> None:
        with pytest.raises(LibraryError, match=r"window of -1 tokens.*asks for 24"):
            self.choose(metadata, sliding_window_size=24)
        sliding = metadata.model_copy(update={"sliding_window_size": 24})
        assert self.choose(sliding, sliding_window_size=24) == Window(96, 32)
        with pytest.raises(LibraryError, match=r"window of 24 tokens.*asks for -1"):
            self.choose(sliding)

    def test_a_sliding_window_does_not_limit_the_context(self, metadata: LibraryMetadata) -> None:
        update = {"sliding_window_size": 24, "context_window_size": -1}
        silent = metadata.model_copy(update=update)
        assert self.choose(silent, sliding_window_size=24).size == 24 * WINDOWS_KEPT
        chosen = self.choose(silent, sliding_window_size=24, context_window_size=300)
        assert chosen.size == 300

    def test_the_sink_is_compiled_in(self, metadata: LibraryMetadata) -> None:
        update = {"sliding_window_size": 24, "attention_sink_size": 4}
        sinking = metadata.model_copy(update=update)
        for same in (-1, 4):
            chosen = self.choose(sinking, sliding_window_size=24, attention_sink_size=same)
            assert chosen == Window(96, 32)
        for other in (0, 5):
            with pytest.raises(LibraryError, match=rf"sink of 4 tokens.*asks for {other}"):
                self.choose(sinking, sliding_window_size=24, attention_sink_size=other)
        with pytest.raises(ConfigError, match=r"attention_sink_size \(24\) must be less"):
            self.choose(sinking, sliding_window_size=24, attention_sink_size=24)
