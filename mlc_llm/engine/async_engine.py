"""``AsyncMLCEngine``: OpenAI's API as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, TypeVar, overload

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.config import ChatConfig
from mlc_llm.engine.config import EngineConfig, Mode
from mlc_llm.engine.metrics import EngineMetrics
from mlc_llm.engine.replies import Chunk, Whole
from mlc_llm.engine.served_model import Prepared, ServedModel
from mlc_llm.engine.steps import AsyncSteps
from mlc_llm.protocol import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Completion,
    CompletionRequest,
)

T = TypeVar("T")


class AsyncMLCEngine:
    """:class:`~mlc_llm.engine.MLCEngine` for asyncio: ``create``, ``abort`` and ``metrics`` are
    coroutines, and a streamed reply is an asynchronous generator.

    The event loop is never blocked once the model is loaded, and no thread of the loop's executor
    is used: any number of tasks may wait for answers. Cancelling a task stops its generation.

    The arguments, attributes and errors are those of :class:`~mlc_llm.engine.MLCEngine`.
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
        self._aside = Aside()
        self.chat = AsyncChat(self._served, self._aside)
        self.completions = AsyncCompletions(self._served, self._aside)

    async def abort(self, request_id: str) -> bool:
        """See :meth:`MLCEngine.abort`."""
        return self._served.abort(request_id)

    async def metrics(self) -> EngineMetrics:
        """See :meth:`MLCEngine.metrics`."""
        return self._served.metrics()

    def loaded_chat(self, model: str, device: str, model_lib: str | None) -> LoadedChat:
        """The model, for a ``ChatModule`` that shares it; see its argument ``engine``."""
        return self._served.loaded_chat(model, device, model_lib)

    def terminate(self) -> None:
        """End all requests with an error, and let go of the model. May be called twice.

        It waits for the step of the model that runs; ``async with`` does so beside the loop.
        """
        self._served.terminate()

    async def __aenter__(self) -> AsyncMLCEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._aside.run(self._served.terminate)

    def __repr__(self) -> str:
        return f"AsyncMLCEngine({self._served!r})"


class Aside:
    """A thread beside the event loop, for what takes moments, such as laying out a prompt.

    It is not the loop's executor, all of whose threads may be waiting, perhaps for an answer.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "mlc_llm prompts")

    async def run(self, function: Callable[[], T]) -> T:
        """What the function returns, which runs in that thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


class AsyncChat:
    """What stands between ``engine`` and ``completions`` in OpenAI's API.

    Args:
        served: the model.
        aside: lays prompts out.

    Attributes:
        completions: answers conversations.
    """

    def __init__(self, served: ServedModel, aside: Aside) -> None:
        self.completions = AsyncChatCompletions(served, aside)


class AsyncChatCompletions:
    """Answers conversations.

    Args:
        served: the model.
        aside: lays prompts out.
    """

    def __init__(self, served: ServedModel, aside: Aside) -> None:
        self._served, self._aside = served, aside

    @overload
    async def create(
        self, *, stream: Literal[True], **arguments: Any
    ) -> AsyncGenerator[ChatCompletionChunk, None]: ...

    @overload
    async def create(
        self, *, stream: Literal[False] | None = None, **arguments: Any
    ) -> ChatCompletion: ...

    async def create(
        self, *, stream: bool | None = None, **arguments: Any
    ) -> ChatCompletion | AsyncGenerator[ChatCompletionChunk, None]:
        """Answer a conversation; see :meth:`mlc_llm.engine.sync_engine.ChatCompletions.create`."""
        request = ChatCompletionRequest(stream=stream, **arguments)
        prepare = partial(self._served.prepare_chat, request)
        return await _reply(self._served, self._aside, prepare)


class AsyncCompletions:
    """Goes on with raw text.

    Args:
        served: the model.
        aside: lays prompts out.
    """

    def __init__(self, served: ServedModel, aside: Aside) -> None:
        self._served, self._aside = served, aside

    @overload
    async def create(
        self, *, stream: Literal[True], **arguments: Any
    ) -> AsyncGenerator[Completion, None]: ...

    @overload
    async def create(
        self, *, stream: Literal[False] | None = None, **arguments: Any
    ) -> Completion: ...

    async def create(
        self, *, stream: bool | None = None, **arguments: Any
    ) -> Completion | AsyncGenerator[Completion, None]:
        """Go on with raw text; see :meth:`mlc_llm.engine.sync_engine.Completions.create`."""
        request = CompletionRequest(stream=stream, **arguments)
        prepare = partial(self._served.prepare_completion, request)
        return await _reply(self._served, self._aside, prepare)


async def _reply(
    served: ServedModel, aside: Aside, prepare: Callable[[], Prepared[Whole, Chunk]]
) -> Whole | AsyncGenerator[Chunk, None]:
    steps = AsyncSteps()

    def begin() -> Prepared[Whole, Chunk]:
        prepared = prepare()
        steps.begin(partial(served.begin, prepared.request_id, prepared.requests))
        return prepared

    try:
        prepared = await aside.run(begin)
    except BaseException:
        steps.close()
        raise
    if prepared.streams:
        return _chunks(steps, prepared)
    return await _whole(steps, prepared)


async def _chunks(
    steps: AsyncSteps, prepared: Prepared[Whole, Chunk]
) -> AsyncGenerator[Chunk, None]:
    try:
        async for step in steps:
            for chunk in prepared.replies.chunks(step):
                yield chunk
        for chunk in prepared.replies.last():
            yield chunk
    finally:
        steps.close()


async def _whole(steps: AsyncSteps, prepared: Prepared[Whole, Chunk]) -> Whole:
    try:
        async for step in steps:
            prepared.replies.add(step)
    finally:
        steps.close()
    return prepared.replies.whole()
