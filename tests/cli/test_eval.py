"""``mlc_llm eval``: its figures for people and programs, and what may be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLI = Callable[..., Any]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("What is the capital of France? " * 8, encoding="utf-8")
    return path


def test_the_demo_beside_itself(mlc_llm: CLI, text: Path) -> None:
    arguments = ("eval", "demo", "--device", "cpu", "--text", text, "--context", 32)
    arguments += ("--tokens", 40, "--reference", "demo")
    shown = mlc_llm(*arguments)
    assert shown.returncode == 0, shown.stderr
    document = json.loads(mlc_llm(*arguments, "--json").stdout)
    assert document["comparison"]["kl_divergence"] == 0
    assert document["tokens"] == 40
    assert document["model"]["quantization"] == document["reference"]["quantization"] == "q4f16_1"
    lines = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert lines["perplexity"] == f"{document['perplexity']:.4f}"


def test_a_file_that_is_not_text(mlc_llm: CLI, text: Path) -> None:
    text.write_bytes(b"caf\xe9")
    result = mlc_llm("eval", "demo", "--text", text)
    assert result.returncode == 1
    assert f"{text} is not a text in UTF-8" in result.stderr
    assert "Using model" not in result.stderr


def test_a_reference_of_another_vocabulary(
    mlc_llm: CLI, text: Path, make_model: Any, stories260k: Path
) -> None:
    other = make_model(stories260k, "q0f32")
    result = mlc_llm("eval", "demo", "--device", "cpu", "--text", text, "--reference", other)
    assert result.returncode == 1
    assert "different vocabularies" in result.stderr
