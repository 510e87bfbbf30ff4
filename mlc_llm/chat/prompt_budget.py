"""Making a conversation fit the context window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import PromptTooLongError
from mlc_llm.tokenizer import PromptTokens

logger = logging.getLogger("mlc_llm")


@dataclass(frozen=True)
class PromptBudget:
    """How much of the context window a prompt may take.

    Args:
        window: tokens that prompt and answer may have together.
        reserve: tokens that should stay free for the answer.
        fill: share of the window that stays filled when old turns are dropped.
    """

    window: int
    reserve: int
    fill: float


def fit(
    conversation: Conversation, messages: Sequence[Message], budget: PromptBudget
) -> tuple[tuple[Message, ...], PromptTokens]:
    """Drop the oldest turns of a conversation that is too long; system messages are never dropped.

    Args:
        conversation: lays messages out as a prompt; its own history is not touched.
        messages: the whole conversation, the message to answer last.
        budget: what the prompt may take.

    Returns:
        The messages that are left, and the tokens of their prompt.

    Raises:
        PromptTooLongError: even the last turn alone is longer than the window.
    """
    kept = tuple(messages)
    prompt = conversation.prompt(kept)
    if len(prompt.ids) + budget.reserve <= budget.window:
        return kept, prompt
    # Without this bound a large reserve would drop a conversation that fits.
    while len(prompt.ids) > budget.fill * budget.window and (fewer := _without_oldest_turn(kept)):
        kept, prompt = fewer, conversation.prompt(fewer)
    if len(prompt.ids) > budget.window:
        raise PromptTooLongError(
            f"The prompt has {len(prompt.ids)} tokens, and the context window holds "
            f"{budget.window}. Shorten it, or set a larger ChatConfig(context_window_size=...) "
            "if the model can."
        )
    if dropped := len(messages) - len(kept):
        logger.info(
            "The conversation fills the context window of %d tokens: "
            "the oldest %d messages were dropped, %d tokens are left",
            budget.window,
            dropped,
            len(prompt.ids),
        )
    return kept, prompt


def _without_oldest_turn(messages: Sequence[Message]) -> tuple[Message, ...] | None:
    """The messages without the oldest user's message and its answers; None if there is one turn."""
    starts = [index for index, message in enumerate(messages) if message.role == "user"]
    first = next((i for i, message in enumerate(messages) if message.role != "system"), None)
    later = [start for start in starts if first is not None and start > first]
    if not later:
        return None
    return (
        *(message for message in messages[: later[0]] if message.role == "system"),
        *messages[later[0] :],
    )
