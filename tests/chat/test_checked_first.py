"""What is wrong with the settings of a chat shows before its checkpoint is converted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, ConvConfig
from mlc_llm.testing import make_checkpoint, raises
from mlc_llm.weights.stores.converted import converted_root

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of converted models, in which nothing is begun."""
    monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))
    yield
    assert [path for path in converted_root().rglob("*") if path.is_file()] == []


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = make_checkpoint(tmp_path / "tiny-llama")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


WRONG: dict[str, tuple[dict[str, Any], str, tuple[Any, ...]]] = {
    "an option's value": ({"opt": "activations=x7"}, "option-unknown", ("x7",)),
    "an option": ({"opt": "speed=9"}, "option-unknown", ("speed",)),
    "a template": ({"conv_template": "lama-2"}, "template-unknown", ("lama-2", "llama-2")),
    "fields of the model's template": (
        {"conv_config": ConvConfig(roles={"user": "U", "assistant": "A"})},
        "template-fixed",
        ("roles", "tiny-llama/chat_template.jinja"),
    ),
    "windows that contradict": (
        {"sliding_window_size": 16, "attention_sink_size": 16},
        "size-invalid",
        (16,),
    ),
    "a window beyond the memory": (
        {"context_window_size": 2**31 - 1},
        "memory-too-small",
        (2**31 - 1, "context_window_size="),
    ),
    "a library": ({"model_lib": __file__}, "library-unusable", (Path(__file__).name,)),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_setting(case: str, checkpoint: Path) -> None:
    settings, code, parts = WRONG[case]
    with raises(code, *parts) as caught:
        ChatModule(str(checkpoint), "cpu", ChatConfig(**settings))
    assert str(converted_root()) not in str(caught.value)


def test_an_unknown_device(checkpoint: Path) -> None:
    with raises("device-unknown", "gpu"):
        ChatModule(str(checkpoint), "gpu")


def test_an_unknown_architecture(checkpoint: Path) -> None:
    config = checkpoint / "config.json"
    data = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**data, "model_type": "lama"}), encoding="utf-8")
    with raises("architecture-unknown", "lama", "llama"):
        ChatModule(str(checkpoint), "cpu")


def test_a_template_that_cannot_be_read(checkpoint: Path) -> None:
    (checkpoint / "chat_template.jinja").write_text("{% for m in", encoding="utf-8")
    with raises("template-unreadable", checkpoint / "chat_template.jinja"):
        ChatModule(str(checkpoint), "cpu")
