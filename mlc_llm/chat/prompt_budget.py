"""Making a conversation fit the context window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from mlc_llm.conversation import Conversation, Message
from mlc_llm.conversation.message import SYSTEM, USER
from mlc_llm.errors import PromptTooLongError
from mlc_llm.tokenizer import PromptTokens

logger = logging.getLogger("mlc_llm")

_LONG_TOKEN = 16
"""Characters that few tokens have."""


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

    @property
    def free(self) -> int:
        """Tokens of a prompt for which nothing has to be dropped."""
        return self.window - self.reserve


def fit(
    conversation: Conversation,
    messages: Sequence[Message],
    budget: PromptBudget,
    *,
    continues: bool = False,
) -> tuple[tuple[Message, ...], PromptTokens]:
    """Drop the oldest turns of a conversation that is too long; system messages are never dropped.

    How many is found by bisection from the end, so that a history far longer than the window costs
    no more than one that fills it.

    Args:
        conversation: lays messages out as a prompt; its own history is not touched.
        messages: the whole conversation, the message to answer last.
        budget: what the prompt may take.
        continues: whether the last message is an answer that goes on.

    Returns:
        The messages that are left, and the tokens of their prompt.

    Raises:
        PromptTooLongError: even the last turn alone is longer than the window.
    """
    cuts = _Cuts(conversation, tuple(messages), continues)
    first = cuts.first_of(budget.free) if _plainly_too_long(messages, budget) else 0
    if first == 0 and cuts.length(0) <= budget.free:
        return cuts.messages(0), cuts.prompt(0)
    # A large reserve does not drop a conversation that fits: 0 may be among these.
    kept = cuts.first_of(budget.fill * budget.window)
    if cuts.length(kept) > budget.window:
        raise PromptTooLongError(
            f"The prompt has {cuts.length(kept)} tokens, and the context window holds "
            f"{budget.window}. Shorten it, or set a larger ChatConfig(context_window_size=...) "
            "if the model can."
        )
    left = cuts.messages(kept)
    if dropped := len(messages) - len(left):
        logger.info(
            "The conversation fills the context window of %d tokens: "
            "the oldest %d messages were dropped, %d tokens are left",
            budget.window,
            dropped,
            cuts.length(kept),
        )
    return left, cuts.prompt(kept)


def _plainly_too_long(messages: Sequence[Message], budget: PromptBudget) -> bool:
    """Whether there is so much text that encoding all of it is hardly worth a try."""
    return sum(len(message.content) for message in messages) > _LONG_TOKEN * budget.window


class _Cuts:
    """The prompts of a conversation without its oldest turns, by how many turns are dropped."""

    def __init__(
        self, conversation: Conversation, messages: tuple[Message, ...], continues: bool
    ) -> None:
        self._conversation, self._messages = conversation, messages
        self._continues = continues
        first = next((i for i, message in enumerate(messages) if message.role != SYSTEM), 0)
        turns = [i for i, message in enumerate(messages) if message.role == USER and i > first]
        self._starts = [0, *turns]
        self._prompts: dict[int, PromptTokens] = {}

    def messages(self, cut: int) -> tuple[Message, ...]:
        """What is left; all of it for 0."""
        start = self._starts[cut]
        system = [message for message in self._messages[:start] if message.role == SYSTEM]
        return (*system, *self._messages[start:])

    def prompt(self, cut: int) -> PromptTokens:
        """The tokens of what is left."""
        if cut not in self._prompts:
            left = self.messages(cut)
            self._prompts[cut] = self._conversation.prompt(left, continues=self._continues)
        return self._prompts[cut]

    def length(self, cut: int) -> int:
        """The number of these tokens."""
        return len(self.prompt(cut).ids)

    def first_of(self, most: float) -> int:
        """The first cut that leaves no more tokens than ``most``; the last one if none does."""
        fits, fails, step = len(self._starts) - 1, -1, 1
        while fits - fails > 1:
            # From the end in growing steps, where prompts are short; then by halves.
            cut = (fits + fails) // 2 if fails >= 0 else max(0, fits - step)
            step *= 2
            if self.length(cut) <= most:
                fits = cut
            else:
                fails = cut
        return fits
