"""A complete model folder in one step: whole or not at all, and once among several processes."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

import pytest

from mlc_llm.convert import Sizes, convert_source, convert_weight, gen_config
from mlc_llm.errors import ConfigError, ConversionError, MLCError
from mlc_llm.testing import make_checkpoint, raises
from mlc_llm.tokenizer.chat_template import read_jinja_template
from mlc_llm.weights.folder import ModelFolder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "source")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equals_the_steps(source: Path, tmp_path: Path) -> None:
    whole = convert_source(
        source,
        tmp_path / "deep" / "whole",
        quantization="q4f32_1",
        conv_template="llama-2",
        sizes=Sizes(context_window_size=64, max_batch_size=2),
    )
    steps = tmp_path / "steps"
    convert_weight(source, "q4f32_1", steps)
    sizes = {"context_window_size": 64, "max_batch_size": 2}
    gen_config(source, "q4f32_1", "llama-2", steps, **sizes)
    assert content(whole) == content(steps)
    ModelFolder.open(whole).verify()


def test_the_default(source: Path, tmp_path: Path) -> None:
    folder = ModelFolder.open(convert_source(source, tmp_path / "out"))
    assert folder.config.quantization == "q4f16_k"
    assert isinstance(folder.config.conv_template, dict)
    assert folder.config.conv_template["name"] == "LM"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("chat_template.jinja", "{{ messages }}"),
        ("tokenizer_config.json", json.dumps({"chat_template": "{{ messages }}"})),
        (
            "tokenizer_config.json",
            json.dumps(
                {
                    "chat_template": [
                        {"name": "tool_use", "template": "no"},
                        {"name": "default", "template": "{{ messages }}"},
                    ]
                }
            ),
        ),
    ],
)
def test_the_chat_template(source: Path, tmp_path: Path, file: str, text: str) -> None:
    (source / file).write_text(text)
    out = convert_source(source, tmp_path / "out")
    template = read_jinja_template(out)
    assert template is not None
    assert template.source == "{{ messages }}"
    assert ModelFolder.open(out).config.conv_template is None


def test_an_output_that_is_there(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with raises("output-exists", out, error=ConversionError):
        convert_source(source, out, exist_ok=True)
    with raises("output-exists", out / "precious", error=ConversionError):
        convert_source(source, out / "precious")
    assert content(out) == {"precious": b"x"}
    (out / "precious").unlink()
    convert_source(source, out)
    with raises("output-exists", out, error=ConversionError):
        convert_source(source, out)
    before = content(out)
    assert convert_source("nowhere", out, exist_ok=True) == out
    assert content(out) == before


@pytest.mark.parametrize("broken", ["tokenizer.json", "model.safetensors"])
def test_what_fails_leaves_nothing(source: Path, tmp_path: Path, broken: str) -> None:
    path = source / broken
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(MLCError) as caught:
        convert_source(source, tmp_path / "out")
    assert str(path) in str(caught.value)
    assert {one.name for one in tmp_path.iterdir()} <= {"source", ".out.lock"}


def test_several_at_once(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One converts, and the others take what it made."""
    made: list[int] = []
    failed: list[BaseException] = []

    def convert() -> None:
        try:
            folder = convert_source(source, tmp_path / "out", exist_ok=True)
            made.append((folder / "mlc-chat-config.json").stat().st_ino)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=convert) for _ in range(4)]
    with caplog.at_level(logging.WARNING):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed
    assert len(made) == 4
    assert len(set(made)) == 1
    ModelFolder.open(tmp_path / "out").verify()


@pytest.mark.parametrize("quantization", [None, "q4f16_0", "q4f16_1", "q0f32"])
def test_what_is_asked_about_first_is_what_is_made(
    source: Path, tmp_path: Path, quantization: str | None
) -> None:
    planned: list[ModelFolder] = []
    out = tmp_path / "out"
    convert_source(source, out, quantization=quantization, check=planned.append)
    [first], made = planned, ModelFolder.open(out)
    assert first.config == made.config
    assert first.total_bytes == made.total_bytes
    tensors, others = (
        [(t.name, t.shape, t.dtype, t.nbytes) for t in folder.manifest.tensors.values()]
        for folder in (first, made)
    )
    assert tensors == others
    made.close()


def test_what_is_refused_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def refuse(folder: ModelFolder) -> None:
        raise ConfigError(f"{folder.path} is not wanted.", code="size-invalid")

    out = tmp_path / "models" / "out"
    with raises("size-invalid", f"{source} is not wanted", error=ConfigError):
        convert_source(source, out, check=refuse)
    assert list(out.parent.iterdir()) == []
