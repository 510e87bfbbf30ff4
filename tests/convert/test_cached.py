"""A checkpoint becomes a model folder by itself, once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlc_llm import ChatConfig, ChatModule, GenerationConfig
from mlc_llm.convert import convert_source
from mlc_llm.convert.cached import OLDER_FLOAT_PLAN, converted, is_checkpoint
from mlc_llm.device.cpu import CPU
from mlc_llm.plugin import Device, Scheme
from mlc_llm.quantization import FLOAT_PLAN
from mlc_llm.sources.safetensors import SafetensorsFormat
from mlc_llm.testing import FakeDevice, make_checkpoint, make_model_folder, registry_of
from mlc_llm.tokenizer.chat_template import read_jinja_template
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.stores.converted import converted_models, converted_root

CHECKPOINT_FILE = "model.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without converted models."""
    monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A small model in Hugging Face's layout."""
    return make_checkpoint(tmp_path / "tiny-llama")


def model_folder(path: Path, device: Device = CPU) -> Path:
    """The model folder that a checkpoint becomes."""
    assert is_checkpoint(path)
    return converted(path, device)


def shards(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("params_shard_*")}


def test_a_checkpoint_is_converted_once(checkpoint: Path) -> None:
    folder = model_folder(checkpoint)
    before = shards(folder)
    assert folder.parent == converted_root()
    assert before
    assert model_folder(checkpoint) == folder
    assert shards(folder) == before
    with ModelFolder.open(folder) as opened:
        assert opened.config.quantization == FLOAT_PLAN
    [listed] = converted_models()
    assert (listed.name, listed.path, listed.whole) == ("tiny-llama", folder, True)


def test_a_checkpoint_that_changed_is_converted_again(checkpoint: Path) -> None:
    first = model_folder(checkpoint)
    tensors = load_file(checkpoint / CHECKPOINT_FILE)
    name = "model.norm.weight"
    save_file({**tensors, name: tensors[name] + np.float32(1)}, checkpoint / CHECKPOINT_FILE)
    second = model_folder(checkpoint)
    assert second != first
    norms = []
    for folder in (first, second):
        with ModelFolder.open(folder) as opened:
            norms.append(np.array(opened.read(name), np.float32))
    np.testing.assert_allclose(norms[1] - norms[0], 1, atol=1e-2)


def test_a_model_folder_is_no_checkpoint(tmp_path: Path) -> None:
    folder = make_model_folder(tmp_path / "small", "q4f16_1")
    # Hugging Face's file beside it changes nothing.
    shutil.copy(folder / "mlc-chat-config.json", folder / "config.json")
    (tmp_path / "empty").mkdir()
    assert not is_checkpoint(folder)
    assert not is_checkpoint(tmp_path / "empty")


def test_a_source_that_fails_stops_no_other(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SafetensorsFormat):
        name, order = "broken", 0

        def recognizes(self, path: Path) -> bool:
            raise ZeroDivisionError("by zero")

    assert is_checkpoint(checkpoint, registry_of(sources={"broken": Broken()}))
    assert "by zero" in caplog.text


def test_an_older_chat_template_counts(checkpoint: Path) -> None:
    """As transformers wrote it for a while; the model is not taken for one that has none."""
    template = {"chat_template": "{{ messages[0]['content'] }}"}
    (checkpoint / "chat_template.json").write_text(json.dumps(template), encoding="utf-8")
    with ModelFolder.open(model_folder(checkpoint)) as folder:
        assert folder.config.conv_template is None
    found = read_jinja_template(folder.path)
    assert found is not None
    assert found.source == template["chat_template"]


def test_a_device_without_its_kernels_gets_an_older_plan(checkpoint: Path) -> None:
    class Plain(FakeDevice):
        def has_scheme(self, scheme: Scheme) -> bool:
            return scheme.super_group is None

    folders = [model_folder(checkpoint, device) for device in (CPU, Plain())]
    found = []
    for folder in folders:
        with ModelFolder.open(folder) as opened:
            found.append(opened.config.quantization)
    assert found == [FLOAT_PLAN, OLDER_FLOAT_PLAN]


def test_two_places_are_two_models(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy" / checkpoint.name)
    for file in copy.iterdir():
        os.utime(file, ns=(0, (checkpoint / file.name).stat().st_mtime_ns))
    assert model_folder(copy) != model_folder(checkpoint)
    assert {model.name for model in converted_models()} == {checkpoint.name}


def test_chat_module_takes_a_checkpoint(
    checkpoint: Path, tmp_path: Path, libraries: Callable[..., object]
) -> None:
    """Its answer is that of a folder that was converted by hand."""
    config = ChatConfig(conv_template="LM", temperature=0.0, context_window_size=64)
    generation = GenerationConfig(max_gen_len=8)
    by_hand = convert_source(checkpoint, tmp_path / "by-hand")
    answers = []
    for model in (by_hand, checkpoint):
        with ChatModule(str(model), "cpu", config) as chat:
            answers.append(chat.generate("ab", generation))
            written = json.loads((Path(chat.model_path) / "mlc-chat-config.json").read_text())
            assert written["quantization"] == FLOAT_PLAN
    assert answers[0] == answers[1] != ""
