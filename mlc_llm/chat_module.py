"""``ChatModule``: a model to talk to, put together from its parts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from mlc_llm.callback import Progress
from mlc_llm.chat.benchmark import benchmark
from mlc_llm.chat.loading import LoadedChat, load_chat
from mlc_llm.chat.settings import ChatSettings, check_generation
from mlc_llm.chat.turn import Event, Turn
from mlc_llm.config import ChatConfig, ConvConfig, GenerationConfig
from mlc_llm.conversation import Conversation, Message
from mlc_llm.errors import ConfigError, GenerationError
from mlc_llm.plugin.registry import default_registry
from mlc_llm.runtime.generation import Delta, GenerationResult
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.runtime.turns import Turns
from mlc_llm.runtime.window import Window

Prompt = str | Sequence[Any]
"""A new user's message, or all messages as mappings or objects with ``role`` and ``content``."""


class ChatModule:
    """A model and one conversation with it.

    May be used from several threads: calls are served one after the other, in the order in which
    they came. A turn enters the history when its answer is complete; one that failed, was
    interrupted or was closed leaves the history as it was.

    Args:
        model: a model folder, or ``HF://org/name`` on the Hugging Face hub.
        device: ``auto``, a device's name, or ``name:index``. With ``model_lib``, ``auto`` means
            the device that the library was built for.
        chat_config: overrides of the model's configuration; it is not changed.
        model_lib: a compiled library; by default one is found, or compiled and cached.

    Attributes:
        model_path: the model folder.
        model_lib: the compiled library that is used.
        device: the device, as ``name:index``.
        chat_config: the configuration in force, all fields set.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelFolderError: its folder is incomplete or malformed.
        LibraryError: there is no library for it, or the named one does not fit.
        DeviceError: the device is unknown or not available, or has too little memory.
        MLCError: something else is missing or does not fit; see ``mlc_llm.errors``.
    """

    def __init__(
        self,
        model: str,
        device: str = "auto",
        chat_config: ChatConfig | None = None,
        model_lib: str | None = None,
    ) -> None:
        if chat_config is not None and not isinstance(chat_config, ChatConfig):
            raise ConfigError(f"chat_config is to be a ChatConfig; given: {chat_config!r}.")
        self._registry = default_registry()
        self._chat: LoadedChat = load_chat(model, device, chat_config, model_lib, self._registry)
        self._finalizer = weakref.finalize(self, self._chat.engine.close)
        self._turns = Turns()
        self.model_path = str(self._chat.folder.path)
        self.model_lib = str(self._chat.library)
        self.device = str(self._chat.device)
        self._settings: ChatSettings = self._chat.settings
        self._conversation = Conversation(self._settings.template, self._chat.tokenizer)
        self.chat_config = self._settings.effective(self.model_lib)
        self._registry.notify("mlc_llm_chat_loaded", chat=self)

    def generate(
        self,
        prompt: Prompt,
        generation_config: GenerationConfig | None = None,
        progress_callback: Callable[[str, bool], Any] | None = None,
        stateless: bool = False,
    ) -> str | list[str]:
        """Answer a prompt.

        Args:
            prompt: a new message of the user, or a list of messages, which replaces the history.
            generation_config: overrides for this answer.
            progress_callback: called with the text so far while the first answer grows; see
                :mod:`mlc_llm.callback`. An exception that it raises stops the generation.
            stateless: forget the history, answer, and leave none.

        Returns:
            The answer; a list of answers when ``generation_config.n`` is set, of which the first
            enters the history.

        Raises:
            PromptTooLongError: the prompt is longer than the context window.
            ConfigError: the prompt or a setting is malformed.
            GenerationError: the model failed, or is closed.
        """
        progress = Progress(progress_callback)
        try:
            events = self._turn(prompt, generation_config, stateless)
            texts = _collect(events, progress)
        except BaseException as error:
            progress.fail(error)
            raise
        if generation_config is not None and generation_config.n is not None:
            return texts
        return texts[0]

    def stream(
        self,
        prompt: Prompt,
        generation_config: GenerationConfig | None = None,
        stateless: bool = False,
    ) -> Generator[str, None, None]:
        """Answer a prompt, and yield the answer in parts as it is written.

        The arguments and errors are those of :meth:`generate`; ``n`` must not be above 1. Closing
        the generator early stops the generation and leaves the history as it was.
        """
        if (check_generation(generation_config).n or 1) > 1:
            raise ConfigError("stream gives one answer; use generate for n of them.")
        return _texts(self._turn(prompt, generation_config, stateless))

    def reset_chat(self, chat_config: ChatConfig | ConvConfig | None = None) -> None:
        """Forget the history and the statistics.

        Args:
            chat_config: is laid over the model's own configuration afresh; None keeps what is in
                force. The sizes of the window and of a prefill chunk stay unless it sets them;
                what is compiled into the library (``opt``, ``sliding_window_size``,
                ``attention_sink_size``) and ``model_lib`` cannot be changed.

        Raises:
            ConfigError: it sets what cannot be changed; nothing was reset.
            TemplateError: it names an unknown template; nothing was reset.
        """
        with self._turns.take():
            chat = self._open_chat()
            if chat_config is not None:
                settings = self._settings.reset(chat.folder.config, chat_config, self._registry)
                window = Window.choose(settings.file, chat.model.metadata)
                conversation = Conversation(settings.template, chat.tokenizer)
                if window != chat.model.window:
                    chat.engine.call(lambda stop: chat.model.resize(window))
                self._settings, self._conversation = settings, conversation
                self.chat_config = settings.effective(self.model_lib)
            self._conversation.reset()
            chat.engine.call(lambda stop: chat.model.reset_metrics())

    def stats(self, verbose: bool = False) -> str:
        """The speed since the chat was loaded or reset.

        Args:
            verbose: a line for each phase, with its tokens and seconds; otherwise as in
                ``prefill: 3477.5 tok/s, decode: 153.6 tok/s``.
        """
        return self.metrics.details() if verbose else self.metrics.summary()

    @property
    def metrics(self) -> Metrics:
        """What :meth:`stats` shows, as numbers."""
        return self._chat.model.metrics

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history."""
        return self._conversation.messages

    def benchmark_generate(self, prompt: str, generate_length: int) -> str:
        """Continue raw text by exactly so many tokens, to measure the speed; see :meth:`stats`.

        No template is applied and nothing ends the text early. The statistics are reset, after
        one warm-up; the history stays as it is.

        Args:
            prompt: the text to continue.
            generate_length: how many tokens; at least 1.

        Raises:
            PromptTooLongError: the prompt and that many tokens do not fit into the window.
            ConfigError: the prompt is empty, or ``generate_length`` is less than 1.
        """
        with self._turns.take():
            return benchmark(self._open_chat(), self._settings, prompt, generate_length)

    def embed_text(self, input: str) -> np.ndarray:
        """The model's embeddings of a text's tokens: float32 of shape (tokens, hidden size).

        Raises:
            ConfigError: the text is empty.
        """
        with self._turns.take():
            chat = self._open_chat()
            ids = chat.tokenizer.encode(input)
            if not ids:
                raise ConfigError("The text is empty: it has no tokens.")
            return chat.engine.call(lambda stop: chat.model.embed(ids))

    def close(self) -> None:
        """Stop what is running, and let go of the model. May be called twice."""
        if self._finalizer.detach() is None:
            return
        self._chat.engine.close()
        self._chat.model.release()
        self._registry.notify("mlc_llm_chat_closed", chat=self)

    def __enter__(self) -> ChatModule:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        return f"ChatModule({self.model_path!r}, device={self.device!r}{state})"

    def _open_chat(self) -> LoadedChat:
        if not self._finalizer.alive:
            raise GenerationError("The chat is closed; make a new ChatModule to use the model.")
        return self._chat

    def _turn(
        self, prompt: Prompt, generation: GenerationConfig | None, stateless: bool
    ) -> Generator[Event, None, None]:
        """Answer a prompt; the history changes when the last event has been taken."""
        results: list[GenerationResult] = []
        with self._turns.take() as place:
            chat, settings = self._open_chat(), self._settings
            messages = self._with_prompt(prompt, stateless)
            generation = check_generation(generation)
            turn = Turn.plan(chat, settings, self._conversation, messages, generation)
            for number in range(generation.n or 1):
                for event in turn.answer(chat, settings, number):
                    if isinstance(event, GenerationResult):
                        results.append(event)
                    elif number > 0:
                        continue
                    yield event
                    place.resumed()
            self._remember(turn, results[0], stateless)
        texts = [result.text for result in results]
        output = texts if generation.n is not None else texts[0]
        self._registry.notify("mlc_llm_chat_generated", chat=self, prompt=prompt, output=output)

    def _with_prompt(self, prompt: Prompt, stateless: bool) -> tuple[Message, ...]:
        """All messages, the one to answer last."""
        if isinstance(prompt, str):
            keeps = self._conversation.template.has_memory and not stateless
            history = self._conversation.messages if keeps else ()
            return (*history, Message("user", prompt))
        if isinstance(prompt, bytes | bytearray) or not isinstance(prompt, Sequence):
            raise ConfigError(
                "A prompt is a text, or a list of messages with role and content; given: "
                f"{prompt!r}."
            )
        return tuple(Message.of(message) for message in prompt)

    def _remember(self, turn: Turn, result: GenerationResult, stateless: bool) -> None:
        if stateless or not self._conversation.template.has_memory:
            self._conversation.reset()
            return
        self._conversation.messages = turn.messages
        self._conversation.append("assistant", result.text, result.token_ids)


def _collect(events: Generator[Event, None, None], progress: Progress) -> list[str]:
    """Take all events, and tell the callback of the first answer; returns the answers' texts."""
    texts: list[str] = []
    text = ""
    try:
        for event in events:
            if isinstance(event, Delta):
                text += event.text
                progress.advance(text, event.tokens)
                if progress.closed:
                    return [text]
            else:
                if not texts:
                    progress.finish(event.text)
                texts.append(event.text)
    finally:
        events.close()
    return texts


def _texts(events: Generator[Event, None, None]) -> Generator[str, None, None]:
    try:
        for event in events:
            if isinstance(event, Delta) and event.text:
                yield event.text
    finally:
        events.close()
