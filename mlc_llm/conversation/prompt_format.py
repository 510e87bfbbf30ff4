"""What a conversation needs to know of a template, be it a named one or the model's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from mlc_llm.conversation.message import Message
from mlc_llm.conversation.segments import Segment


class PromptFormat(ABC):
    """How messages become a prompt of one tokenizer's tokens.

    Attributes:
        marks: added tokens that the template marks turns with, though no file calls them control
            tokens.
        prefix: the token ids that begin every prompt beside the template's own text.
        stop_strings: strings that end an answer.
        stop_ids: the template's own tokens that end an answer.
    """

    marks: tuple[str, ...]
    prefix: tuple[int, ...]
    stop_strings: tuple[str, ...]
    stop_ids: frozenset[int]

    @abstractmethod
    def check(self, messages: Sequence[Message]) -> None:
        """Check messages that enter a conversation.

        Raises:
            TemplateError: the template has no such role.
            ConfigError: it has no place for what a message holds.
        """

    @abstractmethod
    def segments(self, history: Sequence[Message], continues: bool) -> list[Segment]:
        """The parts of a prompt.

        Args:
            history: the messages.
            continues: whether the last one is an answer that goes on.

        Raises:
            MLCError: these messages make no prompt.
        """

    @abstractmethod
    def system_message(self, history: Sequence[Message]) -> str | None:
        """The system message of a prompt; None where the template has no place for one."""

    @abstractmethod
    def complete(self, history: Sequence[Message]) -> tuple[Message, ...]:
        """The messages with the system message in force, as a saved conversation has them."""
