"""Which format opens a checkpoint, and what becomes of a plugin that fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.errors import ConversionError, ModelNotFoundError
from mlc_llm.plugin import Source, SourceFormat
from mlc_llm.sources import open_source
from mlc_llm.sources.safetensors import SafetensorsSource
from mlc_llm.testing import make_checkpoint, raises, registry_of


class Odd(SourceFormat):
    """A format that is asked first, and does what a test wants."""

    name = "odd"
    order = 1
    description = "an odd file"

    def __init__(self, recognizes: Any, opens: Any = None) -> None:
        self._recognizes, self._opens = recognizes, opens

    def recognizes(self, path: Path) -> bool:
        answer = self._recognizes
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    def open(self, path: Path, architectures: Any) -> Source:
        if isinstance(self._opens, Exception):
            raise self._opens
        source: Source = self._opens
        return source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "checkpoint")


def opened(folder: Path, odd: Odd) -> Source:
    return open_source(folder, registry=registry_of(sources={"odd": odd}))


def test_the_first_that_recognises_it_opens_it(folder: Path) -> None:
    source = SafetensorsSource(folder)
    assert opened(folder, Odd(True, source)) is source
    assert opened(folder, Odd(False, source)) is not source


def test_one_that_fails_is_passed_over(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "mlc_llm"):
        source = opened(folder, Odd(ZeroDivisionError("by zero")))
    assert isinstance(source, SafetensorsSource)
    assert "'odd'" in caplog.text
    assert "by zero" in caplog.text


def test_one_that_cannot_open(folder: Path) -> None:
    with raises("conversion-failed", folder, "'odd'", "by zero", error=ConversionError):
        opened(folder, Odd(True, ZeroDivisionError("by zero")))


@pytest.mark.parametrize("config", [{}, {"model_type": 3}])
def test_a_source_without_an_architecture(folder: Path, config: dict[str, Any]) -> None:
    source = SafetensorsSource(folder)
    source.config = config
    with raises("source-config-invalid", folder, "model_type", error=ConversionError):
        opened(folder, Odd(True, source))


def test_nothing_there(tmp_path: Path) -> None:
    with raises("model-not-found", tmp_path / "none.gguf", error=ModelNotFoundError):
        open_source(tmp_path / "none.gguf")


def test_safetensors_come_first(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x")
    (folder / "model.gguf").write_bytes(b"x")
    assert isinstance(open_source(folder), SafetensorsSource)
