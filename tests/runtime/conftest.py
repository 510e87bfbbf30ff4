"""A compiled toy model for the runtime's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.library.cache import LibraryCache
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.engine import Engine
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.testing.libraries import compiled_once
from mlc_llm.weights.folder import ModelFolder

from . import toy_library

Loader = Callable[..., LoadedModel]

WINDOW = ContextWindow(96, 32)
"""The toy's own sizes."""


@pytest.fixture(scope="session")
def toy_path(libraries: LibraryCache) -> Path:
    """The toy's library, compiled once."""
    return compiled_once(libraries, "toy", toy_library.compile_toy)


@pytest.fixture
def load(tmp_path: Path, toy_path: Path) -> Loader:
    """Load the toy in this thread; keywords override its configuration."""

    def make(**config: Any) -> LoadedModel:
        import tvm

        folder = ModelFolder.open(toy_library.write_folder(tmp_path / "model", **config))
        size, chunk = folder.config.context_window_size, folder.config.prefill_chunk_size
        sizes = (n if n > 0 else own for n, own in ((size, WINDOW.size), (chunk, WINDOW.chunk)))
        return LoadedModel.load(toy_path, folder, tvm.cpu(), ContextWindow(*sizes))

    return make


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine thread that is closed after the test."""
    engine = Engine()
    yield engine
    engine.close()
