"""Dropping the oldest turns of a conversation that is too long."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.chat.prompt_budget import PromptBudget, fit
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import PromptTooLongError
from mlc_llm.plugin import ConversationTemplate
from mlc_llm.testing import raises
from mlc_llm.tokenizer import PromptTokens, load_tokenizer

TEMPLATE = ConversationTemplate(
    system_template="{system_message}|",
    system_message="S",
    roles={"user": "U", "assistant": "A", "tool": "T"},
    role_content_sep=":",
    role_empty_sep=":",
    seps=[";"],
)
"""With a token for each byte, so that lengths can be counted by hand."""


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_byte_tokenizer(folder / "tokenizer.json")
    return Conversation(TEMPLATE, load_tokenizer(folder))


def write_byte_tokenizer(path: Path) -> None:
    import tokenizers

    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = {token: index for index, token in enumerate(tokens)}
    model = tokenizers.models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True)
    tokenizers.Tokenizer(model).save(str(path))


def turns(*lengths: int) -> tuple[Message, ...]:
    """A user's message of each length, each but the last answered by one letter."""
    messages = []
    for length in lengths:
        messages += [Message("user", "x" * length), Message("assistant", "y")]
    return tuple(messages[:-1])


def length(messages: tuple[Message, ...]) -> int:
    """Tokens of the prompt: "S|", "U:...;" or "A:...;" for each message, "A:"."""
    return 4 + sum(3 + len(message.content) for message in messages)


def test_what_fits_stays(conversation: Conversation) -> None:
    messages = turns(10, 10, 10)
    for budget in (
        PromptBudget(length(messages) + 99, 99, 0.5),
        PromptBudget(length(messages), 0, 0.5),
    ):
        kept, prompt = fit(conversation, messages, budget)
        assert kept == messages
        assert len(prompt.ids) == length(messages)
    assert conversation.messages == ()


def test_oldest_turns_go_down_to_the_share(
    conversation: Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    messages = turns(10, 10, 10, 10, 10)
    with caplog.at_level(logging.INFO, "mlc_llm"):
        kept, prompt = fit(conversation, messages, PromptBudget(length(messages) - 1, 0, 0.5))
    assert kept == messages[-3:]
    assert len(prompt.ids) == length(kept)
    assert "the oldest 6 messages were dropped, 34 tokens are left" in caplog.text


def test_the_answer_is_reckoned_with(conversation: Conversation) -> None:
    messages = turns(10, 10, 10)
    window = length(messages) + 5
    assert fit(conversation, messages, PromptBudget(window, 5, 0.9))[0] == messages
    assert fit(conversation, messages, PromptBudget(window, 6, 0.9))[0] == messages[2:]
    # A single turn that fits is not refused for its answer's sake.
    assert fit(conversation, turns(30), PromptBudget(length(turns(30)), 20, 0.5))[0] == turns(30)


def test_system_messages_and_whole_turns(conversation: Conversation) -> None:
    system = Message("system", "be brief")
    messages = (
        Message("assistant", "greeting"),
        system,
        Message("user", "x" * 50),
        Message("assistant", "call"),
        Message("tool", "result"),
        Message("assistant", "y"),
        Message("user", "last"),
    )
    kept, _ = fit(conversation, messages, PromptBudget(60, 0, 0.9))
    assert kept == (system, messages[-1])


def test_the_last_turn_alone_is_too_long(conversation: Conversation) -> None:
    with raises("prompt-too-long", 107, 50, error=PromptTooLongError):
        fit(conversation, turns(10, 100), PromptBudget(50, 0, 0.5))


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12),
    st.integers(60, 400),
    st.integers(0, 50),
    st.floats(0.05, 1.0),
)
def test_whatever_the_sizes(
    conversation: Conversation, lengths: list[int], window: int, reserve: int, share: float
) -> None:
    messages = turns(*lengths)
    kept, prompt = fit(conversation, messages, PromptBudget(window, reserve, share))
    assert kept == messages[len(messages) - len(kept) :]
    assert kept[0].role == "user"
    assert len(prompt.ids) == length(kept) <= window
    if kept != messages:
        assert length(messages) + reserve > window
        assert len(kept) == 1 or len(prompt.ids) <= share * window


class Counting(Conversation):
    """A conversation that counts the characters of the prompts that it lays out."""

    characters = 0

    def prompt(self, messages: Any = None, *, continues: bool = False) -> PromptTokens:
        self.characters += sum(len(message.content) for message in messages)
        return super().prompt(messages, continues=continues)


@pytest.mark.parametrize("count", [30, 3000])
def test_a_long_history_costs_no_more_than_the_window(
    conversation: Conversation, count: int
) -> None:
    counting = Counting(TEMPLATE, conversation._tokenizer)
    messages = turns(*[100] * count)
    budget = PromptBudget(window=1000, reserve=100, fill=0.5)
    kept, prompt = fit(counting, messages, budget)
    assert kept == messages[-len(kept) :]
    assert 400 < len(prompt.ids) <= 500
    assert counting.characters < 12 * budget.window


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.floats(0.05, 1.0))
def test_bisecting_finds_what_dropping_one_by_one_finds(
    conversation: Conversation, lengths: list[int], share: float
) -> None:
    messages, budget = turns(*lengths), PromptBudget(400, 50, share)
    expected = messages
    if length(messages) > budget.free:
        while len(expected) > 1 and length(expected) > share * budget.window:
            expected = expected[2:]
    if length(expected) > budget.window:
        with pytest.raises(PromptTooLongError):
            fit(conversation, messages, budget)
    else:
        assert fit(conversation, messages, budget)[0] == expected
