"""A small random model in 4 bits, loaded as the command loads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm.chat.loading import LoadedChat, open_chat
from mlc_llm.config import ChatConfig
from mlc_llm.testing import make_model_folder

CHUNK = 48
"""Tokens of a prefill chunk: less than some tests' prompts."""


@pytest.fixture(autouse=True, scope="module")
def environment() -> Iterator[None]:
    """The command sets TVM's variables for its process, which here goes on with other tests."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder."""
    folder = tmp_path_factory.mktemp("bench") / "small-q4f16_1-MLC"
    return make_model_folder(folder, "q4f16_1", max_position_embeddings=256)


@pytest.fixture(scope="session")
def library(model: Path, make_library: Callable[..., Path]) -> Path:
    """Its library."""
    return make_library(model)


@pytest.fixture
def chat(model: Path, library: Path) -> Iterator[LoadedChat]:
    """The loaded model, on one thread."""
    config = ChatConfig(num_threads=1, prefill_chunk_size=CHUNK)
    with open_chat(str(model), "cpu", config, str(library)) as chat:
        yield chat


@pytest.fixture(scope="session")
def model_config() -> dict[str, Any]:
    """The model's ``config.json``."""
    from mlc_llm.testing.model_folder import SMALL_CONFIG

    return SMALL_CONFIG
