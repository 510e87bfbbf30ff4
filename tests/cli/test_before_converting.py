"""What is wrong with a command's options shows before a checkpoint is converted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.testing import make_checkpoint
from mlc_llm.weights.stores.converted import converted_root


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "tiny-llama")


@pytest.fixture
def refused(
    mlc_llm: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Runs a command that must fail, and gives what it says; at the end nothing is converted."""
    monkeypatch.setenv("MLC_LLM_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str | Path) -> str:
        result = mlc_llm(*arguments)
        assert result.returncode == 1, result.stderr
        assert "Converting" not in result.stderr
        return str(result.stderr)

    yield run
    assert [path for path in converted_root().rglob("*") if path.is_file()] == []


def test_compile(refused: Callable[..., str], checkpoint: Path) -> None:
    said = refused("compile", checkpoint, "--device", "cpu", "--opt", "activations=x7")
    assert "'activations' 'x7'" in said


def test_the_output_of_compile(refused: Callable[..., str], checkpoint: Path) -> None:
    output = checkpoint / "config.json" / "library.so"
    assert f"written to {output}" in refused("compile", checkpoint, "--device", "cpu", "-o", output)


def test_bench(refused: Callable[..., str], checkpoint: Path) -> None:
    assert "100000" in refused("bench", checkpoint, "--device", "cpu", "--context", "100000")


def test_eval(refused: Callable[..., str], checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("", encoding="utf-8")
    assert "too short" in refused("eval", checkpoint, "--device", "cpu", "--text", text)


def test_a_reference_that_is_not_there(
    refused: Callable[..., str], checkpoint: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Hello there", encoding="utf-8")
    missing = tmp_path / "nowhere"
    said = refused("eval", checkpoint, "--device", "cpu", "--text", text, "--reference", missing)
    assert str(missing) in said


def test_the_reference_of_eval(
    refused: Callable[..., str], checkpoint: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Hello there", encoding="utf-8")
    said = refused("eval", "demo", "--device", "cpu", "--text", text, "--reference", checkpoint)
    assert f"{checkpoint} have different vocabularies" in said
