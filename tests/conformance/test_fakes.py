"""The fakes in a registry of their own, and the small model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlc_llm.registry.choice import choose_device
from mlc_llm.testing import (
    FAKE_TEMPLATE,
    FakeArchitecture,
    FakeDevice,
    FakeProvider,
    make_checkpoint,
    make_model_folder,
    raises,
    registry_of,
)
from mlc_llm.tokenizer import load_tokenizer
from mlc_llm.weights.folder import ModelFolder

DOCS = Path(__file__).resolve().parents[2] / "docs" / "plugins" / "index.md"


def test_a_registry_of_fakes() -> None:
    device, provider, architecture = FakeDevice(), FakeProvider(), FakeArchitecture()
    registry = registry_of(
        devices={"fake": device},
        providers={"fake": provider},
        templates={"fake": FAKE_TEMPLATE},
        architectures={"fake": architecture},
    )
    assert registry.device("fake") is device
    assert registry.provider("fake") is provider
    assert registry.template("fake").roles["tool"] == "<tool>"
    assert registry.architecture("fake") is architecture
    assert registry.problems == []
    assert {"cpu", "fake"} <= set(registry.names("device"))
    entry = registry.entry("device", "fake")
    assert (entry.distribution, entry.version) == ("in-memory", "0")


def test_whatever_the_user_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLC_LLM_PLUGINS", "none")
    assert registry_of(devices={"fake": FakeDevice()}).device("fake").name == "fake"


def test_without_the_built_in_ones() -> None:
    registry = registry_of(templates={"fake": FAKE_TEMPLATE}, built_in=False)
    assert registry.names("device") == []
    assert registry.names("conversation template") == ["fake"]
    assert registry_of(built_in=False).entries() == []


def test_a_fake_stands_in_for_a_built_in_plugin() -> None:
    fake = FakeDevice("cpu")
    assert registry_of(devices={"cpu": fake}).device("cpu") is fake


def test_a_wrong_plugin_is_refused() -> None:
    registry = registry_of(devices={"fake": FakeDevice("other")})
    with raises("plugin-broken", "'other'", "'fake'"):
        registry.device("fake")


def test_a_device_that_is_not_available() -> None:
    fake = FakeDevice(reason="there is no driver", remedy="Install it.")
    registry = registry_of(devices={"fake": fake})
    with raises("device-unavailable", "There is no driver. Install it."):
        choose_device("fake", registry)
    with raises("device-index-unknown", "there is no driver"):
        fake.open(0)


def test_the_documented_registry() -> None:
    """The last example of the documentation runs as it stands there."""
    examples = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    [example] = [text for text in examples if "registry_of(" in text]
    exec(compile(example, str(DOCS), "exec"), {})


@pytest.mark.parametrize("quantization", ["q0f32", "q4f16_1"])
def test_a_model_folder(tmp_path: Path, quantization: str) -> None:
    folder = make_model_folder(tmp_path / "a", quantization, seed=3, num_hidden_layers=1)
    again = make_model_folder(tmp_path / "b", quantization, seed=3, num_hidden_layers=1)
    other = make_model_folder(tmp_path / "c", quantization, seed=4, num_hidden_layers=1)
    opened, same, different = (ModelFolder.open(path) for path in (folder, again, other))
    assert opened.config.quantization == quantization
    assert opened.config.model_type == "llama"
    [name] = [name for name in opened.manifest.tensors if re.search(r"o_proj\.(q_)?weight", name)]
    np.testing.assert_array_equal(opened.read(name), same.read(name))
    assert (opened.read(name) != different.read(name)).any()
    for model in (opened, same, different):
        model.close()
    tokenizer = load_tokenizer(folder)
    text = "Grüße, \N{SNOWMAN}\n"
    assert tokenizer.encode("A") == [3 + ord("A")]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_checkpoint_without_torch(tmp_path: Path) -> None:
    """The safetensors library reads what is written here without it."""
    folder = make_checkpoint(tmp_path)
    safetensors = pytest.importorskip("safetensors.numpy")
    tensors = safetensors.load_file(folder / "model.safetensors")
    assert tensors["model.layers.1.self_attn.k_proj.weight"].shape == (64, 128)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_a_vocabulary_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="vocab_size is 100, and must be at least 259"):
        make_checkpoint(tmp_path, vocab_size=100)


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, mlc_llm.testing as t; assert not {'pytest', 'tvm'} & set(sys.modules); " + (
        "[getattr(t, name) for name in t.__all__]; assert 'tvm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
