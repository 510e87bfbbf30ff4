"""A compiled toy model for the runtime's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.plugin import Adapter
from mlc_llm.runtime.engine import Engine
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.weights.folder import ModelFolder

from . import toy_library

Loader = Callable[..., LoadedModel]


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's library, compiled once."""
    return toy_library.compile_toy(tmp_path_factory.mktemp("toy") / "toy.so")


@pytest.fixture(scope="session")
def sliding_toy_path(toy_path: Path) -> Path:
    """The same, said to have a sliding window of 24 tokens."""
    return toy_library.with_sliding_window(toy_path, toy_path.with_name("sliding.so"), 24)


@pytest.fixture
def load(tmp_path: Path, toy_path: Path, sliding_toy_path: Path) -> Loader:
    """Load the toy in this thread, for an adapter; keywords override its configuration."""

    def make(adapter: Adapter | None = None, **config: Any) -> LoadedModel:
        import tvm

        slides = config.get("sliding_window_size", -1) > 0
        folder = ModelFolder.open(toy_library.write_folder(tmp_path / "model", **config))
        library = sliding_toy_path if slides else toy_path
        return LoadedModel.load(library, folder, tvm.cpu(), adapter=adapter)

    return make


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine thread that is closed after the test."""
    engine = Engine()
    yield engine
    engine.close()
