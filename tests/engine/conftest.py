"""The small model of ``tests/chat_module`` in engines, whose steps can be held up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import AsyncMLCEngine, ChatConfig, ChatModule, EngineConfig, MLCEngine
from mlc_llm.chat.loading import LoadedChat
from mlc_llm.runtime.answer import Delta
from mlc_llm.runtime.request import Request
from tests.chat_module.conftest import CHAT
from tests.chat_module.small_model import write_small_checkpoint

MESSAGES = [{"role": "user", "content": "The cat"}]

Loader = Callable[..., MLCEngine]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, make_model: Any) -> Path:
    """The small model's folder; its window is 512 tokens."""
    checkpoint = tmp_path_factory.mktemp("small-checkpoint")
    write_small_checkpoint(checkpoint)
    path: Path = make_model(checkpoint, "q0f32")
    return path


@pytest.fixture(scope="session")
def library(folder: Path, make_library: Any) -> str:
    return str(make_library(folder))


@pytest.fixture
def load(folder: Path, library: str) -> Iterator[Callable[..., Any]]:
    """Make an engine of the small model, greedy unless told otherwise.

    Call it with any fields of ``ChatConfig``; ``kind`` is the class, ``config`` its EngineConfig.
    """
    made: list[Any] = []

    def make(kind: Any = MLCEngine, config: EngineConfig | None = None, **fields: Any) -> Any:
        settings = {"temperature": 0.0, "max_gen_len": 24, "conv_template": CHAT, **fields}
        mode = settings.pop("mode", "local")
        chat_config = ChatConfig(**settings)
        made.append(kind(str(folder), "cpu", library, mode, config, chat_config=chat_config))
        return made[-1]

    yield make
    for engine in made:
        engine.terminate()


@pytest.fixture
def engine(load: Loader) -> MLCEngine:
    return load()


@pytest.fixture
def async_engine(load: Callable[..., Any]) -> AsyncMLCEngine:
    made: AsyncMLCEngine = load(AsyncMLCEngine)
    return made


@pytest.fixture
def chat_module(folder: Path, library: str) -> Iterator[Callable[..., ChatModule]]:
    """Make a ChatModule of the same model, with the same settings."""
    made: list[ChatModule] = []

    def make(**fields: Any) -> ChatModule:
        settings = {"temperature": 0.0, "max_gen_len": 24, "conv_template": CHAT, **fields}
        made.append(ChatModule(str(folder), "cpu", ChatConfig(**settings), library))
        return made[-1]

    yield make
    for chat in made:
        chat.close()


class HeldChat(LoadedChat):
    """The loaded model, whose answers wait before each step after the first ones."""

    gate: threading.Semaphore
    begun: threading.Semaphore
    closed: threading.Semaphore

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        try:
            for delta in super().stream(request):
                self.begun.release()
                assert self.gate.acquire(timeout=60)
                yield delta
        finally:
            self.closed.release()


@pytest.fixture
def hold() -> Iterator[Callable[..., HeldChat]]:
    """Have an engine's answers wait before every step, after a number of them."""
    held: list[HeldChat] = []

    def make(engine: Any, steps: int = 0) -> HeldChat:
        chat = HeldChat(**vars(engine._served.chat))
        for name, count in (("gate", steps), ("begun", 0), ("closed", 0)):
            object.__setattr__(chat, name, threading.Semaphore(count))
        engine._served.chat = chat
        held.append(chat)
        return chat

    yield make
    for chat in held:
        chat.gate.release(100_000)
