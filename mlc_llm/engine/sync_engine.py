"""``MLCEngine``: OpenAI's API as calls of Python."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any, Literal, overload

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.config import ChatConfig
from mlc_llm.engine.config import EngineConfig, Mode
from mlc_llm.engine.metrics import EngineMetrics
from mlc_llm.engine.replies import Chunk, Whole
from mlc_llm.engine.served_model import Prepared, ServedModel
from mlc_llm.engine.steps import Steps
from mlc_llm.protocol import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Completion,
    CompletionRequest,
)


class MLCEngine:
    """One loaded model that answers many requests at once, each with all it needs.

    Any number of threads may use it. ``engine.chat.completions.create(...)`` answers a
    conversation, ``engine.completions.create(...)`` goes on with raw text.

    Args:
        model: a model folder, a GGUF file or another checkpoint, ``HF://org/name`` on the Hugging
            Face hub, or a short name such as ``demo``. A checkpoint is converted once.
        device: ``auto``, a device's name, or ``name:index``. With ``model_lib``, ``auto`` means
            the device that the library was built for.
        model_lib: a compiled library; by default one is found, or compiled and cached.
        mode: ``local`` for a few requests at once, ``interactive`` for one, ``server`` for as many
            as memory has room for; see :class:`EngineConfig`, which overrides it.
        engine_config: how much is served at once; it is not changed.
        chat_config: overrides of the model's configuration, such as its template; it is not
            changed.
        progress: whether to show the progress of a download and of a conversion on stderr, when
            that is a terminal.

    Attributes:
        chat: has ``completions``, which answers conversations.
        completions: goes on with raw text.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelFolderError: its folder is incomplete or malformed.
        LibraryError: there is no library for it, or the named one does not fit.
        DeviceError: the device is unknown or not available, or has too little memory.
        ConfigError: a setting is wrong, or sizes contradict each other.
        MLCError: something else is missing or does not fit; see ``mlc_llm.errors``.
    """

    def __init__(
        self,
        model: str,
        device: str = "auto",
        model_lib: str | None = None,
        mode: Mode = "local",
        engine_config: EngineConfig | None = None,
        *,
        chat_config: ChatConfig | None = None,
        progress: bool = False,
    ) -> None:
        self._served = ServedModel(
            model, device, model_lib, mode, engine_config, chat_config, progress
        )
        self.chat = Chat(self._served)
        self.completions = Completions(self._served)

    def abort(self, request_id: str) -> bool:
        """End a request: its answers end as they are, with the ``finish_reason`` ``abort``.

        Args:
            request_id: the id that it was given, or that its reply has.

        Returns:
            Whether a request of that id was running.
        """
        return self._served.abort(request_id)

    def metrics(self) -> EngineMetrics:
        """What the engine has done so far, and how fast."""
        return self._served.metrics()

    def loaded_chat(self, model: str, device: str, model_lib: str | None) -> LoadedChat:
        """The model, for a ``ChatModule`` that shares it; see its argument ``engine``."""
        return self._served.loaded_chat(model, device, model_lib)

    def terminate(self) -> None:
        """End all requests with an error, and let go of the model. May be called twice."""
        self._served.terminate()

    def __enter__(self) -> MLCEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __repr__(self) -> str:
        return f"MLCEngine({self._served!r})"


class Chat:
    """What stands between ``engine`` and ``completions`` in OpenAI's API.

    Args:
        served: the model.

    Attributes:
        completions: answers conversations.
    """

    def __init__(self, served: ServedModel) -> None:
        self.completions = ChatCompletions(served)


class ChatCompletions:
    """Answers conversations.

    Args:
        served: the model.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served

    @overload
    def create(
        self, *, stream: Literal[True], **arguments: Any
    ) -> Generator[ChatCompletionChunk, None, None]: ...

    @overload
    def create(
        self, *, stream: Literal[False] | None = None, **arguments: Any
    ) -> ChatCompletion: ...

    def create(
        self, *, stream: bool | None = None, **arguments: Any
    ) -> ChatCompletion | Generator[ChatCompletionChunk, None, None]:
        """Answer a conversation.

        Args:
            stream: whether to give the reply in chunks.
            arguments: those of :class:`~mlc_llm.protocol.ChatCompletionRequest`; ``messages`` is
                needed.

        Returns:
            The reply; with ``stream=True`` a generator of its chunks. The answers are written from
            now on, and closing the generator stops that.

        Raises:
            ConfigError: an argument or a message is wrong; nothing was begun.
            PromptTooLongError: the prompt is longer than a sequence may be; nothing was begun.
            MLCError: something else of the request is wrong; nothing was begun.
            GenerationError: the model failed, or the engine was terminated; in a stream, at the
                chunk where that happened.
        """
        request = ChatCompletionRequest(stream=stream, **arguments)
        return _reply(self._served, self._served.prepare_chat(request))


class Completions:
    """Goes on with raw text.

    Args:
        served: the model.
    """

    def __init__(self, served: ServedModel) -> None:
        self._served = served

    @overload
    def create(
        self, *, stream: Literal[True], **arguments: Any
    ) -> Generator[Completion, None, None]: ...

    @overload
    def create(self, *, stream: Literal[False] | None = None, **arguments: Any) -> Completion: ...

    def create(
        self, *, stream: bool | None = None, **arguments: Any
    ) -> Completion | Generator[Completion, None, None]:
        """Go on with raw text.

        As :meth:`ChatCompletions.create`, with the arguments of
        :class:`~mlc_llm.protocol.CompletionRequest`; ``prompt`` is needed.
        """
        request = CompletionRequest(stream=stream, **arguments)
        return _reply(self._served, self._served.prepare_completion(request))


def _reply(
    served: ServedModel, prepared: Prepared[Whole, Chunk]
) -> Whole | Generator[Chunk, None, None]:
    steps = Steps(partial(served.begin, prepared.request_id, prepared.requests))
    return _chunks(steps, prepared) if prepared.streams else _whole(steps, prepared)


def _chunks(steps: Steps, prepared: Prepared[Whole, Chunk]) -> Generator[Chunk, None, None]:
    try:
        for step in steps:
            yield from prepared.replies.chunks(step)
        yield from prepared.replies.last()
    finally:
        steps.close()


def _whole(steps: Steps, prepared: Prepared[Whole, Chunk]) -> Whole:
    try:
        for step in steps:
            prepared.replies.add(step)
    finally:
        steps.close()
    return prepared.replies.whole()
