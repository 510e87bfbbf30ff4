"""From what a user writes to a folder on the disk."""

from pathlib import Path

import pytest

import mlc_llm
from mlc_llm.errors import ModelNotFoundError
from mlc_llm.testing import raises
from mlc_llm.weights.locate import DEMO, model_name, resolve_model

PACKAGE = Path(mlc_llm.__file__).parent


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _model(folder):
    folder.mkdir(parents=True)
    (folder / "mlc-chat-config.json").write_text("{}")
    return folder


def test_a_folder(working_folder):
    folder = _model(working_folder / "model")
    assert resolve_model(str(folder)) == folder
    assert resolve_model(folder) == folder
    assert resolve_model("model").resolve() == folder
    assert resolve_model("model/mlc-chat-config.json").resolve() == folder


def test_the_home_folder(working_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(working_folder))
    monkeypatch.setenv("USERPROFILE", str(working_folder))
    folder = _model(working_folder / "model")
    assert resolve_model("~/model") == folder


@pytest.mark.parametrize("place", ["dist", "dist/prebuilt", "dist/prebuilt/mlc-chat-"])
def test_where_mlc_keeps_models(working_folder, place):
    path = f"{place}Llama" if place.endswith("-") else f"{place}/Llama"
    folder = _model(working_folder / path)
    assert resolve_model("Llama").resolve() == folder


def test_weights_in_params(working_folder):
    _model(working_folder / "dist" / "Llama" / "params")
    assert resolve_model("Llama").resolve() == working_folder / "dist" / "Llama" / "params"
    assert resolve_model("dist/Llama").resolve() == working_folder / "dist" / "Llama" / "params"


def test_a_folder_with_a_configuration_comes_before_one_without(working_folder):
    (working_folder / "Llama").mkdir()
    folder = _model(working_folder / "dist" / "Llama")
    assert resolve_model("Llama").resolve() == folder


def test_a_folder_without_a_configuration_is_still_found(working_folder):
    """As a Hugging Face model is; whoever opens it says what it lacks."""
    (working_folder / "checkpoint").mkdir()
    assert resolve_model("checkpoint").resolve() == working_folder / "checkpoint"


def test_not_found_lists_every_place(working_folder):
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model("Llama-7b")
    for place in ("Llama-7b", "dist/Llama-7b", "dist/prebuilt/Llama-7b"):
        assert str(working_folder / place) in str(caught.value)
    assert "HF://" not in str(caught.value)


def test_not_found_suggests_the_hub(working_folder):
    with raises("model-not-found", "HF://meta-llama/Llama-2-7b"):
        resolve_model("meta-llama/Llama-2-7b")


def test_a_file(working_folder):
    (working_folder / "weights.bin").touch()
    with raises("model-not-found", "weights.bin", "mlc-chat-config.json"):
        resolve_model("weights.bin")


@pytest.mark.parametrize("model", ["", "  "])
def test_nothing(working_folder, model):
    with raises("model-not-found", "HF://", "'demo'"):
        resolve_model(model)


def test_absolute_paths_are_not_looked_up_under_dist(working_folder):
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model(str(working_folder / "none"))
    assert "dist" not in str(caught.value).replace(str(working_folder), "")


def test_the_demo_is_part_of_the_package(working_folder):
    assert resolve_model("demo") == PACKAGE / "demo"
    assert (resolve_model(DEMO) / "mlc-chat-config.json").is_file()


@pytest.mark.parametrize("place", ["demo", "demo/params", "dist/demo", "dist/prebuilt/demo"])
def test_a_model_of_that_name_comes_before_the_demo(working_folder, place):
    folder = _model(working_folder / place)
    assert resolve_model("demo").resolve() == folder


def test_a_folder_that_is_no_model_does_not_hide_the_demo(working_folder):
    (working_folder / "demo").mkdir()
    (working_folder / "dist" / "demo").mkdir(parents=True)
    assert resolve_model("demo") == PACKAGE / "demo"


@pytest.mark.parametrize("model", [Path("demo"), "./demo", "Demo", "demo/mlc-chat-config.json"])
def test_the_demo_is_a_name_and_no_path(working_folder, model):
    with pytest.raises(ModelNotFoundError):
        resolve_model(model)


def test_what_a_model_is_called(working_folder):
    assert model_name(Path("dist/my-model")) == "my-model"
    assert model_name(Path()) == working_folder.name
    assert model_name(PACKAGE / "demo") == "demo"
    snapshot = Path("hub/models--org--name--x/snapshots/0123abc")
    assert model_name(snapshot) == "HF://org/name--x"
    assert model_name(snapshot / "a" / "m.gguf") == "HF://org/name--x/a/m.gguf"
    assert model_name(Path("models/m-Q4_0.gguf")) == "m-Q4_0.gguf"
