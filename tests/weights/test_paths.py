"""Paths that no system can have, and files that may not be read."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.convert import convert_weight, gen_config
from mlc_llm.errors import ConversionError, ModelFolderError, ModelNotFoundError
from mlc_llm.testing import make_checkpoint, make_model_folder, raises
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import resolve_model
from mlc_llm.weights.paths import is_file, is_folder, listed, shown_name

IMPOSSIBLE = {
    "too long": "a" * 300,
    "much too long": "a/" * 5000,
    "NUL": "model\0",
    "half a character": "model\ud800",
}


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_model_of_an_impossible_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for ask in (resolve_model, lambda path: resolve_model(Path(path)), ModelFolder.open):
        with pytest.raises(ModelNotFoundError) as caught:
            ask(name)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 3000
    with pytest.raises(ModelNotFoundError):
        convert_weight(name, "q0f16", tmp_path / "out")


@pytest.mark.parametrize("name", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_output_of_an_impossible_name(name, tmp_path):
    source = make_checkpoint(tmp_path / "source")
    with pytest.raises(ConversionError):
        convert_weight(source, "q0f16", tmp_path / name)
    with pytest.raises(ConversionError):
        gen_config(source, "q0f16", "LM", tmp_path / name)


@pytest.mark.parametrize("name", ["a" * 300, "model\0", "model\ud800", "\n", "\x1b[31m"])
def test_an_index_with_impossible_names(name, tmp_path):
    source = make_checkpoint(tmp_path / "source")
    (source / "model.safetensors").unlink()
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(ConversionError) as caught:
        convert_weight(source, "q0f16", tmp_path / "out")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a" * 300, "model\0", "model\ud800"])
def test_a_model_folder_with_impossible_names(name, tmp_path):
    model = make_model_folder(tmp_path / "model")
    config, manifest = model / "mlc-chat-config.json", model / "tensor-cache.json"
    text = config.read_text()
    config.write_text(json.dumps({**json.loads(text), "tokenizer_files": [name]}))
    with pytest.raises(ModelFolderError):
        ModelFolder.open(model)
    config.write_text(text)
    data = json.loads(manifest.read_text())
    data["records"][0]["dataPath"] = name
    manifest.write_text(json.dumps(data))
    with pytest.raises(ModelFolderError):
        ModelFolder.open(model)


@given(st.text(st.characters(codec=None), max_size=300))
def test_any_name_is_asked_for(name):
    for ask in (is_file, is_folder):
        try:
            ask(Path("/nowhere") / name, ModelFolderError)
        except ModelFolderError as error:
            assert str(error).isprintable()  # noqa: PT017 (whether it is raised is the system's)
    assert shown_name(name).isprintable()
    assert len(shown_name(name)) < 1600


def test_names_are_listed():
    assert listed(["a", "b"]) == "a, b"
    assert listed([*"abcdefg"]) == "a, b, c, d, e and 2 more"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_what_the_system_refuses_to_say(code, tmp_path, monkeypatch):
    def refuse(path, **_):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with raises("file-unreadable", tmp_path, error=ModelNotFoundError) as caught:
        ModelFolder.open(tmp_path)
    assert ("Allow this user" in str(caught.value)) == (code == errno.EACCES)


POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are POSIX's")


@POSIX
@pytest.mark.parametrize(
    "name", ["mlc-chat-config.json", "tensor-cache.json", "params_shard_0.bin", "."]
)
def test_files_of_a_model_that_may_not_be_read(name, open_folder, ordinary_user):
    model = make_model_folder(open_folder / "model")
    ModelFolder.open(model).verify()
    (model / name).chmod(0)
    with ordinary_user(), pytest.raises((ModelFolderError, ModelNotFoundError)) as caught:
        ModelFolder.open(resolve_model(model)).verify()
    (model / name).chmod(0o700)
    assert str(model / name) in str(caught.value)
    assert "ermission denied" in str(caught.value)


@POSIX
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "."])
def test_files_of_a_checkpoint_that_may_not_be_read(name, open_folder, ordinary_user):
    source = make_checkpoint(open_folder / "source")
    convert_weight(source, "q0f16", open_folder / "before")
    (source / name).chmod(0)
    with ordinary_user(), pytest.raises((ConversionError, ModelNotFoundError)) as caught:
        convert_weight(source, "q0f16", open_folder / "after")
    (source / name).chmod(0o700)
    assert str(source / name) in str(caught.value)
    assert "ermission denied" in str(caught.value)
