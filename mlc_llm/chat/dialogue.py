"""One conversation with a loaded model: its settings, its history, and how turns change them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_llm.chat import saving
from mlc_llm.chat.loading import LoadedChat, resize
from mlc_llm.chat.resent import Messages, adopt, turns_before, without_dropped
from mlc_llm.chat.saving import RestoredChat, SavedChat
from mlc_llm.chat.settings import ChatSettings
from mlc_llm.chat.transcript import read_transcript
from mlc_llm.chat.turn import Turn
from mlc_llm.config import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import ConfigError
from mlc_llm.registry.registry import Registry
from mlc_llm.runtime.answer import Answer, Delta, GenerationResult
from mlc_llm.shown import shown

Prompt = str | Sequence[Any]
"""A new user's message, or all messages as mappings or objects with ``role`` and ``content``."""


@dataclass(frozen=True)
class RenderedPrompt:
    """What a model is given for a prompt.

    Args:
        text: as a text, with special tokens by their names.
        token_ids: the tokens.
    """

    text: str
    token_ids: tuple[int, ...]


class Dialogue:
    """A conversation. Its callers hold a lock (:mod:`mlc_llm.chat.fair_lock`).

    Args:
        chat: the model.
        registry: where templates are looked up.

    Attributes:
        settings: what is in force.
        conversation: the history.
        results: what the last call generated; see ``ChatModule.results``.
    """

    def __init__(self, chat: LoadedChat, registry: Registry) -> None:
        self._chat = chat
        self._registry = registry
        self.settings: ChatSettings = chat.plan.settings
        self.conversation = Conversation(self.settings.template, chat.plan.tokenizer)
        self.results: tuple[GenerationResult, ...] = ()
        self._dropped: Messages = ()  # Turns before the history, which the window had no room for.

    def answer(
        self, prompt: Prompt, generation: GenerationConfig, stateless: bool
    ) -> Generator[Delta, None, None]:
        """Answer a prompt; the history changes when all steps have been taken.

        Args:
            prompt: the prompt.
            generation: the user's overlay for it.
            stateless: forget the history, answer, and leave none.

        Yields:
            The steps of the first answer, then those of the others.

        Raises:
            PromptTooLongError: the prompt is longer than the context window.
            ConfigError: the prompt or a setting is malformed.
            GenerationError: the model failed.
        """
        done: list[GenerationResult] = []
        try:
            dropped, messages = self._with_prompt(prompt, generation, stateless)
            turn = Turn.plan(self._chat, self.settings, self.conversation, messages, generation)
            requests = [turn.request(self.settings, number) for number in range(generation.n or 1)]
            with self._chat.answers(requests) as answers:
                for steps in answers:
                    yield from self._one_answer(turn, steps, done)
            self._remember(turn, done[0], stateless)
            goes_on = bool(self.conversation.messages)
            self._dropped = (*dropped, *turns_before(messages, turn.messages)) if goes_on else ()
        except (GeneratorExit, KeyboardInterrupt):
            self.results = tuple(done)
            raise
        except BaseException:
            self.results = ()
            raise
        self.results = tuple(done)

    def _one_answer(
        self, turn: Turn, steps: Iterator[Delta], done: list[GenerationResult]
    ) -> Generator[Delta, None, None]:
        """One of the answers; its result is appended to ``done``, also when it is broken off."""
        answer = Answer(len(turn.prompt.ids), turn.generation.logprobs is not None)
        try:
            for delta in steps:
                answer.add(delta)
                yield delta
        finally:
            done.append(answer.result())

    def render(self, prompt: Prompt, generation: GenerationConfig) -> RenderedPrompt:
        """What :meth:`answer` would give the model; nothing is changed.

        Raises:
            PromptTooLongError: the prompt is longer than the context window.
            ConfigError: the prompt or a setting is malformed.
        """
        _dropped, messages = self._with_prompt(prompt, generation, stateless=False)
        turn = Turn.plan(self._chat, self.settings, self.conversation, messages, generation)
        goes_on = bool(generation.continue_final_message)
        text = self.conversation.prompt_text(turn.messages, continues=goes_on)
        return RenderedPrompt(self.conversation.prefix_text + text, tuple(turn.prompt.ids))

    def reset(self, change: ChatConfig | ConvConfig | None) -> None:
        """Forget the history and the statistics; lay an overlay over the model's own configuration.

        Raises:
            MLCError: the overlay cannot be had; nothing was changed.
        """
        chat = self._chat
        if change is not None:
            folder = chat.plan.folder
            settings = self.settings.reset(folder.config, change, self._registry, folder.path)
            if chat.shared:
                chat.plan.sharing(settings, self._registry)
            else:
                planned = chat.plan.changed(settings, self._registry).model
                if planned.window != chat.model.window:
                    resize(chat, planned)
            conversation = Conversation(settings.template, chat.plan.tokenizer)
            self.settings, self.conversation = settings, conversation
        self.conversation.reset()
        self._dropped = ()
        self.results = ()
        chat.engine.call(lambda stop: chat.metrics.reset())

    def restore(self, messages: Iterable[Any]) -> None:
        """Replace the history by any messages that :meth:`Message.of` reads.

        The KV cache stays: what it shares with the next prompt is not prefilled again.

        Raises:
            MLCError: a message does not fit, or there is no memory; nothing was changed.
        """
        self._require_memory("set")
        before = self.conversation.messages
        self.conversation.messages = messages
        try:
            if self.conversation.messages:
                # What cannot be encoded is found here, and not at the next turn.
                self.conversation.prompt()
        except BaseException:
            self.conversation.messages = before
            raise
        self._dropped = ()
        self.results = ()

    def save(self, path: Path) -> SavedChat:
        """Write the conversation to files; see :mod:`mlc_llm.chat.saving`.

        Raises:
            MLCError: there is none, there is no memory, or a file cannot be written.
        """
        self._require_memory("save")
        return saving.save(self._chat, self.conversation, path)

    def load(self, path: Path) -> RestoredChat:
        """Replace the history by what :meth:`save` wrote, and restore its keys and values.

        Raises:
            MLCError: the messages cannot be read, do not fit, or there is no memory; nothing was
                changed.
        """
        self._require_memory("set")
        transcript = read_transcript(path)
        self.restore(saving.without_wrong_tokens(self._chat, transcript.messages))
        return saving.restore(self._chat, self.conversation, path, transcript)

    def _require_memory(self, purpose: str) -> None:
        if not self.conversation.template.has_memory:
            raise ConfigError(
                f"The template {shown(self.conversation.template.name)} has no memory: every call "
                f"begins afresh, so there is no history to {purpose}.",
                code="template-without-memory",
            )

    def _with_prompt(
        self, prompt: Prompt, generation: GenerationConfig, stateless: bool
    ) -> tuple[Messages, Messages]:
        """The turns that were dropped, and all others, the one to answer or to go on with last."""
        keeps = self.conversation.template.has_memory and not stateless
        dropped, history = (self._dropped, self.conversation.messages) if keeps else ((), ())
        if not isinstance(prompt, str):
            dropped, messages = without_dropped(_read(prompt), dropped, history)
            return dropped, adopt(messages, self.conversation.messages)
        if not generation.continue_final_message:
            return dropped, (*history, Message("user", prompt))
        if prompt:
            raise ConfigError(
                "With continue_final_message the prompt must be empty, to go on with the history's "
                "last answer, or a list of messages that ends with an answer, not "
                f"{shown(prompt)}.",
                code="prompt-malformed",
            )
        return dropped, history

    def _remember(self, turn: Turn, result: GenerationResult, stateless: bool) -> None:
        if stateless or not self.conversation.template.has_memory:
            self.conversation.reset()
            return
        if not turn.generation.continue_final_message:
            self.conversation.messages = turn.messages
            self.conversation.append("assistant", result.text, result.token_ids)
            return
        *before, begun = turn.messages
        self.conversation.messages = before
        known = begun.token_ids
        token_ids = None if known is None else (*known, *result.token_ids)
        self.conversation.append("assistant", begun.content + result.text, token_ids)


def _read(prompt: Sequence[Any]) -> Messages:
    """The messages of a list that is a prompt."""
    if isinstance(prompt, bytes | bytearray) or not isinstance(prompt, Sequence):
        raise ConfigError(
            "A prompt must be a text or a list of messages with role and content, not "
            f"{shown(prompt)}.",
            code="prompt-malformed",
        )
    return tuple(map(Message.of, prompt))
