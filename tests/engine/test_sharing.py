"""Chats that share the model of an engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mlc_llm
from mlc_llm import AsyncMLCEngine, ChatConfig, ChatModule, GenerationConfig, MLCEngine
from mlc_llm.errors import ConfigError, GenerationError
from mlc_llm.testing import raises

QUESTIONS = ["What is one plus one?", "Name three colours.", "Who are you?"]
GREEDY = GenerationConfig(temperature=0, max_gen_len=24)


@pytest.fixture(scope="session")
def demo_library(make_library: Any) -> str:
    return str(make_library(Path(mlc_llm.__file__).parent / "demo"))


@pytest.fixture
def engine(demo_library: str) -> Iterator[MLCEngine]:
    with MLCEngine("demo", "cpu", demo_library) as engine:
        yield engine


@pytest.fixture
def expected(demo_library: str) -> list[str]:
    """What a chat of its own answers."""
    with ChatModule("demo", "cpu", model_lib=demo_library) as chat:
        return [str(chat.generate(question, GREEDY)) for question in QUESTIONS]


def test_each_has_its_own_conversation(engine: MLCEngine, expected: list[str]) -> None:
    """They talk at the same time, and beside the engine's own requests."""
    found: dict[int, list[str]] = {}

    def talk(number: int) -> None:
        chat = ChatModule("demo", engine=engine)
        found[number] = [str(chat.generate(question, GREEDY)) for question in QUESTIONS]
        assert len(chat.messages) == 2 * len(QUESTIONS)
        chat.close()

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    reply = engine.chat.completions.create(messages=messages, temperature=0, max_tokens=24)
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(3)] == [expected] * 3
    assert reply.choices[0].message.content == expected[0]


def test_settings_and_measurements_are_its_own(engine: MLCEngine) -> None:
    one = ChatModule("demo", engine=engine)
    other = ChatModule("demo", "cpu", ChatConfig(temperature=0.0, max_gen_len=3), engine=engine)
    other.generate("Hello")
    assert len(other.results[0].token_ids) <= 3
    assert other.metrics.decode.tokens > 0
    assert one.metrics.decode.tokens == 0
    other.reset_chat()
    assert other.metrics.decode.tokens == 0
    other.reset_chat(ChatConfig(max_gen_len=5))
    assert other.chat_config.max_gen_len == 5


def test_closing_a_chat_leaves_the_engine(engine: MLCEngine) -> None:
    chat = ChatModule("demo", engine=engine)
    chat.close()
    with raises("chat-closed", error=GenerationError):
        chat.generate("Hello")
    assert ChatModule("demo", engine=engine).generate("Hello", GREEDY)
    engine.terminate()
    with raises("engine-terminated", error=GenerationError):
        ChatModule("demo", engine=engine)


def test_a_chat_ends_with_its_engine(engine: MLCEngine) -> None:
    chat = ChatModule("demo", engine=engine)
    engine.terminate()
    with raises("chat-closed", error=GenerationError):
        chat.generate("Hello")


def test_with_the_engine_of_asyncio(demo_library: str, expected: list[str]) -> None:
    engine = AsyncMLCEngine("demo", "cpu", demo_library)
    try:
        chat = ChatModule("demo", engine=engine)
        assert chat.generate(QUESTIONS[0], GREEDY) == expected[0]
    finally:
        engine.terminate()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"model": "another"}, "model-not-served"),
        ({"model": "demo", "device": "vulkan"}, "model-not-served"),
        ({"model": "demo", "model_lib": "/tmp/other.so"}, "model-not-served"),
        ({"model": "demo", "chat_config": ChatConfig(context_window_size=99)}, "setting-settled"),
        ({"model": "demo", "chat_config": ChatConfig(prefill_chunk_size=9)}, "setting-settled"),
        ({"model": "demo", "chat_config": ChatConfig(deterministic=True)}, "setting-settled"),
    ],
)
def test_what_the_engine_has_not(engine: MLCEngine, arguments: Any, code: str) -> None:
    with raises(code, error=ConfigError):
        ChatModule(**arguments, engine=engine)
