"""``ChatModule``: a model to talk to, put together from its parts."""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_llm.callback import Progress
from mlc_llm.chat.fair_lock import FairLock
from mlc_llm.chat.streams import StepsInThreads, StreamChunk, chunks, show
from mlc_llm.config import ChatConfig, ConvConfig, GenerationConfig, check_generation
from mlc_llm.conversation import Message
from mlc_llm.errors import ConfigError, GenerationError
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.answer import Delta, GenerationResult
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.shown import shown

if TYPE_CHECKING:
    import numpy as np

    from mlc_llm.chat.dialogue import Prompt, RenderedPrompt
    from mlc_llm.chat.loading import LoadedChat, Shareable
    from mlc_llm.chat.saving import RestoredChat, SavedChat


class ChatModule:
    """A model and one conversation with it.

    May be used from several threads and asyncio tasks: calls are served one after the other, in
    the order in which they came. A turn enters the history when its answer is complete; one that
    failed, was interrupted or was closed leaves the history as it was.

    Args:
        model: a model folder, a GGUF file or another checkpoint, ``HF://org/name`` on the Hugging
            Face hub, or a short name such as ``demo``. A checkpoint is converted once.
        device: ``auto``, a device's name, or ``name:index``. With ``model_lib``, ``auto`` means
            the device that the library was built for.
        chat_config: overrides of the model's configuration; it is not changed.
        model_lib: a compiled library; by default one is found, or compiled and cached.
        progress: whether to show the progress of a download and of a conversion on stderr, when
            that is a terminal.
        engine: an ``MLCEngine`` or ``AsyncMLCEngine`` of this model, whose weights and KV cache the
            chat shares; the sizes of the cache are the engine's.

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
        *,
        progress: bool = False,
        engine: Shareable | None = None,
    ) -> None:
        # Half of the package, and NumPy: imported for the first model, and not for this class.
        from mlc_llm.chat.dialogue import Dialogue
        from mlc_llm.chat.loading import load_chat
        from mlc_llm.chat.plan import plan_chat

        if chat_config is not None and not isinstance(chat_config, ChatConfig):
            raise ConfigError(
                f"chat_config must be a ChatConfig, not {shown(chat_config)}.",
                code="argument-mistyped",
            )
        self._registry = default_registry()
        if engine is None:
            plan = plan_chat(
                model, device, chat_config, model_lib, self._registry, progress=progress
            )
            self._chat: LoadedChat = load_chat(plan, self._registry)
            self._finalizer = weakref.finalize(self, self._chat.engine.abandon)
        else:
            own = engine.loaded_chat(model, device, model_lib)
            self._chat = own.share(chat_config, self._registry)
            # The engine has a life of its own, but lives as long as a chat with it.
            self._finalizer = weakref.finalize(self, partial(_leave, engine))
        self._lock = FairLock()
        plan = self._chat.plan
        self.model_path = str(plan.folder.path)
        self.model_lib = str(self._chat.library)
        self.device = str(plan.device)
        self._dialogue = Dialogue(self._chat, self._registry)
        self.chat_config = self._dialogue.settings.effective(self.model_lib)
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
            The answer as a text. A list of answers exactly when ``generation_config.n`` is set,
            also to 1; the first of them enters the history.

        Raises:
            PromptTooLongError: the prompt is longer than the context window.
            ConfigError: the prompt or a setting is malformed.
            GenerationError: the model failed, or is closed.
        """
        progress = Progress(progress_callback)
        try:
            generation = check_generation(generation_config)
            with self._lock.take():
                show(self._deltas(prompt, generation, stateless), progress)
                texts = [result.text for result in self.results]
        except BaseException as error:
            progress.fail(error)
            raise
        return texts[0] if generation.n is None else texts

    async def agenerate(
        self,
        prompt: Prompt,
        generation_config: GenerationConfig | None = None,
        stateless: bool = False,
    ) -> str | list[str]:
        """:meth:`generate` for asyncio; cancelling the task stops the generation."""
        generation = check_generation(generation_config)
        async with (
            self._lock.take_async(),
            aclosing(StepsInThreads(self._deltas(prompt, generation, stateless))) as deltas,
        ):
            async for _ in deltas:
                pass
            texts = [result.text for result in self.results]
        return texts[0] if generation.n is None else texts

    def stream(
        self,
        prompt: Prompt,
        generation_config: GenerationConfig | None = None,
        stateless: bool = False,
    ) -> Generator[StreamChunk, None, None]:
        """Answer a prompt, and yield the answer in parts as it is written.

        The arguments and errors are those of :meth:`generate`; ``n`` must not be above 1. Closing
        the generator early stops the generation and leaves the history as it was.

        Yields:
            Strings, which also have ``token_ids`` and, if asked for, ``logprobs``. The last one
            has a ``finish_reason``; the turn is in the history by then.
        """
        return self._stream(prompt, _check_single(generation_config), stateless)

    def _stream(
        self, prompt: Prompt, generation: GenerationConfig, stateless: bool
    ) -> Generator[StreamChunk, None, None]:
        with self._lock.take() as ticket:
            deltas = self._deltas(prompt, generation, stateless)
            for chunk in chunks(deltas, generation.logprobs is not None):
                if chunk.finish_reason is None:
                    ticket.suspended()
                    yield chunk
                    ticket.resumed()
        # Whoever takes the last one and no further step must not hold up the next call.
        yield chunk

    def astream(
        self,
        prompt: Prompt,
        generation_config: GenerationConfig | None = None,
        stateless: bool = False,
    ) -> AsyncGenerator[StreamChunk, None]:
        """:meth:`stream` for asyncio: ``async for chunk in chat.astream(prompt)``.

        The event loop is never blocked, and tasks are served in the order in which they ask for
        their first chunk. Cancelling the task, or closing the generator, stops the generation.
        """
        return self._astream(prompt, _check_single(generation_config), stateless)

    async def _astream(
        self, prompt: Prompt, generation: GenerationConfig, stateless: bool
    ) -> AsyncGenerator[StreamChunk, None]:
        async with self._lock.take_async() as ticket:
            parts = chunks(
                self._deltas(prompt, generation, stateless), generation.logprobs is not None
            )
            async with aclosing(StepsInThreads(parts)) as steps:
                async for chunk in steps:
                    if chunk.finish_reason is None:
                        ticket.suspended()
                        try:
                            yield chunk
                        except GeneratorExit:
                            ticket.abandon()
                            raise
                        ticket.resumed()
        yield chunk

    def _deltas(
        self, prompt: Prompt, generation: GenerationConfig, stateless: bool
    ) -> Generator[Delta, None, None]:
        """Answer a prompt, and tell the plugins."""
        self._open_chat()
        yield from self._dialogue.answer(prompt, generation, stateless)
        texts = [result.text for result in self._dialogue.results]
        output = texts[0] if generation.n is None else texts
        self._registry.notify("mlc_llm_chat_generated", chat=self, prompt=prompt, output=output)

    @property
    def results(self) -> tuple[GenerationResult, ...]:
        """What the last call generated, one result for each answer.

        Besides the text each has the token ids, the ``finish_reason``, the sizes of the prompt
        and, where ``GenerationConfig(logprobs=...)`` was set, the log-probabilities. An answer
        that was broken off is there as far as it came, as ``cancelled``. Empty after an error.
        """
        return self._dialogue.results

    def render(
        self, prompt: Prompt, generation_config: GenerationConfig | None = None
    ) -> RenderedPrompt:
        """What the model would be given for a prompt, as text and as tokens; nothing is generated.

        The arguments and errors are those of :meth:`generate`.
        """
        generation = check_generation(generation_config)
        with self._lock.take():
            self._open_chat()
            return self._dialogue.render(prompt, generation)

    def reset_chat(self, chat_config: ChatConfig | ConvConfig | None = None) -> None:
        """Forget the history and the statistics.

        Args:
            chat_config: is laid over the model's own configuration afresh; None keeps what is in
                force. The sizes of the window and of a prefill chunk stay unless it sets them;
                what is compiled into the library (``opt``, ``sliding_window_size``,
                ``attention_sink_size``), ``model_lib`` and ``num_threads`` cannot be changed.

        Raises:
            ConfigError: it sets what cannot be changed; nothing was reset.
            TemplateError: it names an unknown template; nothing was reset.
        """
        with self._lock.take():
            self._open_chat()
            self._dialogue.reset(chat_config)
            self.chat_config = self._dialogue.settings.effective(self.model_lib)

    def stats(self, verbose: bool = False) -> str:
        """The speed since the chat was loaded or reset.

        Args:
            verbose: four lines for each phase, with its tokens and seconds; otherwise as in
                ``prefill: 3477.5 tok/s, decode: 153.6 tok/s``.
        """
        return self.metrics.details() if verbose else self.metrics.summary()

    @property
    def metrics(self) -> Metrics:
        """What :meth:`stats` shows, as numbers, and the time to the first token."""
        return self._chat.metrics.snapshot()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The history, without the template's own system message and first messages.

        Each has a ``role``, a ``content`` and, for a generated answer, its ``token_ids``. Setting
        it replaces the history by any messages in OpenAI's form, as those of a list given to
        :meth:`generate`; the next turn follows them. Answers that come without ``token_ids`` are
        encoded from their text.

        Raises:
            ConfigError: a message is malformed, or the template has no memory; the history stays.
            TemplateError: the template has no role of that name; the history stays.
            TokenizerError: a message has an invalid character; the history stays.
        """
        return self._dialogue.conversation.messages

    @messages.setter
    def messages(self, messages: Iterable[Any]) -> None:
        with self._lock.take():
            self._open_chat()
            self._dialogue.restore(messages)

    @property
    def system_message(self) -> str | None:
        """The system message in force: that of the history, or else the template's.

        None where the template has no place for one. To set it for a new conversation, use
        ``reset_chat(ConvConfig(system_message=...))``.
        """
        return self._dialogue.conversation.system_message

    def save(self, path: str | PathLike[str]) -> SavedChat:
        """Write the conversation to a file, and its keys and values beside it.

        The file is JSON that people can read. The other one, whose name is the same and ``.kv``,
        saves the model from reading the conversation again; it can be deleted. An existing saved
        conversation is replaced, any other file is not.

        Args:
            path: the file.

        Raises:
            SavedChatError: there is no conversation yet, a file cannot be written, or something
                else is there.
            ConfigError: the template has no memory.
        """
        with self._lock.take():
            self._open_chat()
            return self._dialogue.save(Path(path))

    def load(self, path: str | PathLike[str]) -> RestoredChat:
        """Go on with a conversation that was saved, in place of the one that is open.

        Its keys and values are restored where they are those of this model and library, and the
        next turn reads what is left. Why none were restored is logged, and in the result.

        Args:
            path: the file.

        Raises:
            SavedChatError: the file cannot be read, or is not a saved conversation; the history
                stays.
            ConfigError: the template has no memory; the history stays.
            TemplateError: the template has no role of a message; the history stays.
            TokenizerError: a message has an invalid character; the history stays.
        """
        with self._lock.take():
            self._open_chat()
            return self._dialogue.load(Path(path))

    def benchmark_generate(self, prompt: str, generate_length: int) -> str:
        """Continue raw text by an exact number of tokens, to measure the speed; see :meth:`stats`.

        No template is applied and nothing ends the text early. The statistics are reset, after
        one warm-up; the history stays as it is.

        Args:
            prompt: the text to continue.
            generate_length: how many tokens; at least 1.

        Raises:
            PromptTooLongError: the prompt and that many tokens do not fit into the window.
            ConfigError: the prompt is empty, or ``generate_length`` is less than 1.
        """
        from mlc_llm.chat.benchmark import benchmark

        with self._lock.take():
            return benchmark(self._open_chat(), self._dialogue.settings, prompt, generate_length)

    def embed_text(self, input: str) -> np.ndarray:
        """The model's embeddings of a text's tokens: float32 of shape (tokens, hidden size).

        Raises:
            ConfigError: the text is empty.
        """
        with self._lock.take():
            chat = self._open_chat()
            ids = chat.plan.tokenizer.encode(input)
            if not ids:
                raise ConfigError("The text is empty: it has no tokens.", code="prompt-empty")
            return chat.engine.call(lambda stop: chat.model.embed(ids))

    def close(self) -> None:
        """Stop what is running, and let go of the model. May be called twice."""
        if self._finalizer.detach() is None:
            return
        if not self._chat.shared:
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
            raise GenerationError(
                "The chat is closed; make a new ChatModule to use the model.", code="chat-closed"
            )
        return self._chat


def _leave(_engine: Shareable) -> None:
    """What a chat that shares an engine's model does at its end: nothing."""


def _check_single(generation: GenerationConfig | None) -> GenerationConfig:
    """The overlay for a stream, which gives one answer."""
    generation = check_generation(generation)
    if (generation.n or 1) > 1:
        raise ConfigError("stream gives one answer; use generate for n of them.")
    return generation
