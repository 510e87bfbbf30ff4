"""What becomes of an answer's steps: calls of a callback, a stream of chunks, steps in asyncio."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from mlc_llm.callback import Progress
from mlc_llm.runtime.answer import Delta, FinishReason, Limit

if TYPE_CHECKING:
    import asyncio

    from mlc_llm.runtime.logprobs import TokenLogprob

T = TypeVar("T")

_END: Any = object()


class StreamChunk(str):
    """A part of an answer: a string, which says besides what it is made of.

    The last chunk of a stream has a ``finish_reason``; often it has no text.

    Args:
        text: the text that is new.
        token_ids: the tokens that were generated since the last chunk.
        logprobs: their log-probabilities; None where they were not asked for.
        finish_reason: why the answer ended; None while it goes on.
        limit: what cut it: ``max_gen_len`` or ``context_window``; None where it was not cut.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None
    finish_reason: FinishReason | None
    limit: Limit | None

    def __new__(
        cls,
        text: str = "",
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] | None = None,
        finish_reason: FinishReason | None = None,
        limit: Limit | None = None,
    ) -> Self:
        chunk = super().__new__(cls, text)
        chunk.token_ids = token_ids
        chunk.logprobs = logprobs
        chunk.finish_reason = finish_reason
        chunk.limit = limit
        return chunk

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.token_ids, self.logprobs, self.finish_reason, self.limit

    def __repr__(self) -> str:
        return (
            f"StreamChunk({str(self)!r}, token_ids={self.token_ids}, "
            f"finish_reason={self.finish_reason!r})"
        )


def show(deltas: Generator[Delta, None, None], progress: Progress) -> None:
    """Take all steps, and tell the callback of the first answer; stop when it is closed."""
    complete = False
    try:
        for delta in deltas:
            if complete:
                continue
            progress.advance(delta.text, len(delta.token_ids))
            if progress.closed:
                return
            if delta.finish_reason is not None:
                progress.finish()
                complete = True
    finally:
        deltas.close()


def chunks(
    deltas: Generator[Delta, None, None], records: bool
) -> Generator[StreamChunk, None, None]:
    """The parts of one answer; ``records`` says whether log-probabilities are recorded.

    All steps have been taken before the last chunk is given, so that whoever stops there has the
    whole answer.
    """
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    reason: FinishReason | None = None
    limit: Limit | None = None
    try:
        for delta in deltas:
            reason, limit = delta.finish_reason, delta.limit
            token_ids += delta.token_ids
            logprobs += delta.logprobs
            if delta.text:
                yield StreamChunk(delta.text, token_ids, logprobs if records else None)
                token_ids, logprobs = (), ()
    finally:
        deltas.close()
    yield StreamChunk("", token_ids, logprobs if records else None, reason, limit)


class StepsInThreads(AsyncIterator[T]):
    """Takes what a generator yields without blocking the event loop; close it with ``aclosing``.

    Each step runs in a thread of the loop's executor. When the task is cancelled, the generator is
    closed as soon as the step that runs has ended, and only then the cancellation goes on.

    It is not an asynchronous generator: a loop that ends closes all of those at once, this one
    while the one that uses it is waiting for it.

    Args:
        generator: what is stepped.
    """

    def __init__(self, generator: Generator[T, None, None]) -> None:
        self._generator = generator
        self._lock = threading.Lock()

    async def __anext__(self) -> T:
        import asyncio

        value = await asyncio.get_running_loop().run_in_executor(None, self._step)
        if value is _END:
            raise StopAsyncIteration
        return value

    async def aclose(self) -> None:
        """Close the generator when the step that runs has ended."""
        import asyncio

        await _finish(asyncio.get_running_loop().run_in_executor(None, self._close))

    def _step(self) -> T:
        with self._lock:
            return next(self._generator, _END)

    def _close(self) -> None:
        with self._lock:
            self._generator.close()


async def _finish(future: asyncio.Future[None]) -> None:
    """Wait for a future to its end, even when the task is cancelled meanwhile."""
    import asyncio

    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    future.result()
