"""The history of a chat, and the token ids of the prompt that it makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlc_llm.conversation.message import ASSISTANT, Message
from mlc_llm.conversation.named import NamedFormat
from mlc_llm.conversation.prompt_format import PromptFormat
from mlc_llm.conversation.segments import Generated, Segment, SegmentEncoder
from mlc_llm.conversation.spelling import spelling
from mlc_llm.errors import ConfigError
from mlc_llm.plugin.template import ConversationTemplate
from mlc_llm.shown import shown
from mlc_llm.tokenizer import PromptTokens, Tokenizer
from mlc_llm.tokenizer.chat_template import JinjaTemplate

ChatTemplate = ConversationTemplate | JinjaTemplate
"""How messages become a prompt: a named template, or the model's own one."""


class Conversation:
    """Messages, and the token ids of the prompt that they make.

    The history is a value: keep ``conversation.messages`` and assign it again to go back.

    Args:
        template: how messages become a prompt.
        tokenizer: the model's tokenizer.

    Raises:
        TemplateError: the template is malformed, asks for tokens that the tokenizer does not have,
            or begins with a message of a role that it does not have.
    """

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        self.template = template
        self._tokenizer = tokenizer
        self._format = _format_of(template, tokenizer)
        self._encoder = SegmentEncoder(tokenizer, self._format.marks)
        self._messages: tuple[Message, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history, without the messages that every conversation of the template begins with.

        It may be set to any messages that :meth:`Message.of` reads.
        """
        return self._messages

    @messages.setter
    def messages(self, messages: Iterable[Any]) -> None:
        self._messages = self._read(messages)

    @property
    def system_message(self) -> str | None:
        """The system message of the prompt; None where the template has no place for one.

        Of the model's own template only what was set is known; it may have a text besides.
        """
        return self._format.system_message(self._messages)

    @property
    def complete_messages(self) -> tuple[Message, ...]:
        """The history with the system message in force, as it is saved."""
        return self._format.complete(self._messages)

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The template's strings that end an answer."""
        return self._format.stop_strings

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the tokenizer's and the template's.

        Also its stop strings that are one token: a special token has no text, so a stop string such
        as ``<|im_end|>`` is met only this way.
        """
        tokens = {**self._tokenizer.added_ids, **self._tokenizer.special_ids}
        named = {tokens[stop] for stop in self.stop_strings if stop in tokens}
        return self._tokenizer.end_ids.union(named, self._format.stop_ids)

    def append(self, role: str, content: str, token_ids: Sequence[int] | None = None) -> None:
        """Add a message to the history.

        Args:
            role: the message's role.
            content: its text.
            token_ids: for a generated answer, its tokens. Those after the end of ``content``, as
                of a stop string or a stop token, are left out; when the tokens do not spell
                ``content``, as when a stop string begins inside one, the text is used instead.

        Raises:
            TemplateError: the template has no such role.
            ConfigError: the content is not text.
        """
        message = Message.of({"role": role, "content": content})
        if token_ids is not None:
            message = replace(message, token_ids=spelling(self._tokenizer, token_ids, content))
        self._messages += self._read([message])

    def reset(self) -> None:
        """Forget all messages."""
        self._messages = ()

    def prompt_ids(self, messages: Iterable[Any] | None = None) -> list[int]:
        """The token ids of the prompt, up to where the assistant writes.

        Args:
            messages: what to use in place of the history, as :meth:`Message.of` reads them.
                System messages replace the template's; a named template joins several by an empty
                line.

        Raises:
            TemplateError: the template has no role of that name.
            ConfigError: there is no message, or a message is malformed.
            TokenizerError: a message has an invalid character.
        """
        return list(self.prompt(messages).ids)

    def prompt(
        self, messages: Iterable[Any] | None = None, *, continues: bool = False
    ) -> PromptTokens:
        """Like :meth:`prompt_ids`, with where generated tokens stand.

        Args:
            messages: as for :meth:`prompt_ids`.
            continues: whether the last message is an answer that goes on.

        Raises:
            ConfigError: the last message cannot go on; and see :meth:`prompt_ids`.
        """
        return self._encoder.encode(self._segments(messages, continues), self._format.prefix)

    def prompt_text(self, messages: Iterable[Any] | None = None, *, continues: bool = False) -> str:
        """The prompt as text, to show, without the tokens that begin every prompt.

        Generated tokens are decoded, ``prompt_ids`` keeps them. The arguments are those of
        :meth:`prompt`.
        """
        return "".join(
            self._tokenizer.decode(segment.ids) if isinstance(segment, Generated) else segment.text
            for segment in self._segments(messages, continues)
        )

    @property
    def prefix_text(self) -> str:
        """The tokens that begin every prompt, such as BOS, by their names."""
        names = {token_id: text for text, token_id in self._tokenizer.special_ids.items()}
        return "".join(names.get(token_id, f"<{token_id}>") for token_id in self._format.prefix)

    def _segments(self, messages: Iterable[Any] | None, continues: bool) -> list[Segment]:
        history = self._messages if messages is None else self._read(messages)
        if continues:
            self._require_answer(history)
        return self._format.segments(history, continues)

    def _require_answer(self, history: Sequence[Message]) -> None:
        """Refuse to go on with what is not an answer."""
        if not self.template.has_memory:
            raise ConfigError(
                f"The template {shown(self.template.name)} has no memory, so there is no answer to "
                "go on with: give the text as the prompt, and it is continued.",
                code="template-without-memory",
            )
        if not history or history[-1].role != ASSISTANT:
            last = f"is of the role {shown(history[-1].role)}" if history else "does not exist"
            raise ConfigError(
                f"The last message {last}; continue_final_message goes on with an answer of the "
                f"role {ASSISTANT!r}.",
                code="prompt-malformed",
            )

    def _read(self, messages: Iterable[Any]) -> tuple[Message, ...]:
        if isinstance(messages, str | Mapping) or not isinstance(messages, Iterable):
            raise ConfigError(
                f"Messages must be a list, not {shown(messages)}.", code="prompt-malformed"
            )
        read = tuple(Message.of(message) for message in messages)
        self._format.check(read)
        return read


def _format_of(template: ChatTemplate, tokenizer: Tokenizer) -> PromptFormat:
    if isinstance(template, ConversationTemplate):
        return NamedFormat(template, tokenizer)
    from mlc_llm.conversation.jinja.format import JinjaFormat  # needs jinja2, which takes its time

    return JinjaFormat(template, tokenizer)
