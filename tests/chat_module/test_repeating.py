"""The same request gives the same answer, whatever the KV cache holds when it comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, GenerationConfig
from mlc_llm.testing import raises

# Each option needs a library of its own.
pytestmark = pytest.mark.matrix(chat=[None])

NAMES = ("Ann", "Bob", "Cid", "Dora", "Eve")
PROMPTS = [
    f"My name is {name} and I have {n} apples. What is one plus {n}?"
    for n, name in enumerate(NAMES)
]
QUESTIONS = ("Count to five.", "Why?")  # to the first, an answer whose text has its tokens
SETTINGS = [
    GenerationConfig(temperature=0, max_gen_len=30),
    GenerationConfig(temperature=1.3, seed=7, max_gen_len=30),
]


@pytest.fixture(scope="module", params=[None, "activations=a8", "activations=a16"], ids=str)
def chat(request: pytest.FixtureRequest) -> Iterator[ChatModule]:
    with ChatModule("demo", "cpu", ChatConfig(opt=request.param)) as chat:
        yield chat


@pytest.fixture(scope="module")
def deterministic() -> Iterator[ChatModule]:
    with ChatModule("demo", "cpu", ChatConfig(deterministic=True)) as chat:
        yield chat


def tokens(chat: ChatModule) -> tuple[int, ...]:
    """Those of the first answer of the last call."""
    return chat.results[0].token_ids


@pytest.mark.parametrize("generation", SETTINGS, ids=["greedy", "seeded"])
def test_the_same_call_again(chat: ChatModule, generation: GenerationConfig) -> None:
    """At first, after other prompts, as a stream, and as the first of several answers."""
    for prompt in PROMPTS:
        found = []
        for before in ("", prompt, prompt + " Say it.", PROMPTS[0]):
            if before:
                chat.generate(before, GenerationConfig(max_gen_len=3), stateless=True)
            chat.generate(prompt, generation, stateless=True)
            found.append(tokens(chat))
        for _ in chat.stream(prompt, generation, stateless=True):
            pass
        found.append(tokens(chat))
        several = generation.model_copy(update={"n": 2})
        chat.generate(prompt, several, stateless=True)
        found.append(tokens(chat))
        assert len(set(found)) == 1, prompt


@pytest.mark.parametrize("generation", SETTINGS, ids=["greedy", "seeded"])
def test_each_of_several_answers(chat: ChatModule, generation: GenerationConfig) -> None:
    """An answer is the one that a call with its seed alone gives."""
    several = generation.model_copy(update={"n": 3})
    for prompt in PROMPTS:
        chat.generate(prompt, several, stateless=True)
        together = [result.token_ids for result in chat.results]
        alone = []
        for number in range(3):
            seed = None if generation.seed is None else generation.seed + number
            chat.generate(prompt, generation.model_copy(update={"seed": seed}), stateless=True)
            alone.append(tokens(chat))
        assert together == alone


def conversation(chat: ChatModule, prompts: Sequence[str]) -> list[tuple[int, ...]]:
    chat.reset_chat()
    answers = []
    for prompt in prompts:
        chat.generate(prompt, SETTINGS[0])
        answers.append(tokens(chat))
    return answers


def test_a_conversation_whose_keys_and_values_were_lost(chat: ChatModule) -> None:
    """Earlier answers are computed again as they were: their tokens are in the history."""
    unbroken = conversation(chat, PROMPTS)
    conversation(chat, PROMPTS[:-1])
    history = chat.messages
    chat._chat.engine.call(lambda stop: chat._chat.model.reset())
    chat.messages = history
    chat.generate(PROMPTS[-1], SETTINGS[0])
    assert chat.results[0].prefilled_tokens > 50
    assert tokens(chat) == unbroken[-1]


def messages_of(chat: ChatModule) -> list[dict[str, Any]]:
    """The history as another program would send it back: texts alone."""
    return [{"role": message.role, "content": message.content} for message in chat.messages]


def test_answers_that_come_back_as_messages(deterministic: ChatModule) -> None:
    """It does not matter then how earlier answers were computed."""
    chat, greedy = deterministic, GenerationConfig(temperature=0)
    chat.reset_chat()
    for prompt in QUESTIONS[:-1]:
        chat.generate(prompt, greedy)
    history = messages_of(chat)
    chat.generate(QUESTIONS[-1], greedy)
    unbroken = chat.results[0]
    for before in (PROMPTS[4], QUESTIONS[0]):
        chat.generate(before, greedy, stateless=True)
        chat.generate([*history, {"role": "user", "content": QUESTIONS[-1]}], greedy)
        (again,) = chat.results
        assert again.prompt_tokens == unbroken.prompt_tokens  # or it would be another request
        assert again.token_ids == unbroken.token_ids


def test_deterministic_is_settled_when_the_model_is_loaded(deterministic: ChatModule) -> None:
    from mlc_llm.errors import ConfigError

    assert deterministic.chat_config.deterministic is True
    with raises("setting-settled", "deterministic", error=ConfigError):
        deterministic.reset_chat(ChatConfig(deterministic=False))
