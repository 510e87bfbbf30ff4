"""The small model of ``tests/chat_module`` in engines, whose steps can be held up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import AsyncMLCEngine, ChatConfig, ChatModule, EngineConfig, MLCEngine
from mlc_llm.chat.loading import LoadedChat
from mlc_llm.runtime.answer import Delta
from mlc_llm.runtime.outbox import Sink
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


class HeldSink:
    """A sink that is full until a step more is let through."""

    def __init__(self, chat: HeldChat, sink: Sink) -> None:
        self._chat, self._sink, self._steps = chat, sink, 0

    @property
    def is_full(self) -> bool:
        return self._steps >= self._chat.allowed[0]

    def put(self, delta: Delta) -> None:
        self._steps += 1
        self._sink.put(delta)
        self.flush()
        self._chat.begun.release()

    def flush(self) -> None:
        self._sink.flush()

    def end(self, error: BaseException | None = None) -> None:
        self._sink.end(error)


class HeldChat(LoadedChat):
    """The loaded model, whose answers wait before each step after the first ones."""

    allowed: list[int]
    begun: threading.Semaphore
    closed: threading.Semaphore

    def submit(self, request: Request, sink: Sink) -> Callable[[], None]:
        cancel = super().submit(request, HeldSink(self, sink))

        def cancel_and_tell() -> None:
            cancel()
            self.closed.release()

        return cancel_and_tell

    def let(self, steps: int) -> None:
        """Let each answer make that number of steps more."""
        self.allowed[0] += steps
        self.engine.wake()


@pytest.fixture
def hold() -> Callable[..., HeldChat]:
    """Have an engine's answers wait before every step, after a number of them."""

    def make(engine: Any, steps: int = 0) -> HeldChat:
        chat = HeldChat(**vars(engine._served.chat))
        object.__setattr__(chat, "allowed", [steps])
        object.__setattr__(chat, "begun", threading.Semaphore(0))
        object.__setattr__(chat, "closed", threading.Semaphore(0))
        engine._served.chat = chat
        return chat

    return make
