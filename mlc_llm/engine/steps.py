"""The steps of a request's answers, for a thread that waits and for a task that does not."""

from __future__ import annotations

import asyncio
import queue
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from mlc_llm.engine.running_request import End, Receiver, RunningRequest, Step
from mlc_llm.errors import GenerationError

_WATCH_SECONDS = 1.0
"""How often a thread that waits looks whether a step may still come."""

Begin = Callable[[Receiver], RunningRequest]
"""Begins a generation, whose steps go to the receiver."""


class Steps(Iterator[Step]):
    """Steps for a thread. When it is closed or forgotten, the generation stops.

    Args:
        begin: begins the generation.

    Raises:
        MLCError: it cannot be begun.
    """

    def __init__(self, begin: Begin) -> None:
        self._inbox: queue.SimpleQueue[Sequence[Step | End]] = queue.SimpleQueue()
        self._events: deque[Step | End] = deque()
        self._running = begin(self._inbox.put)
        self._ended = False
        weakref.finalize(self, self._running.drop).atexit = False

    def __next__(self) -> Step:
        if self._ended:
            raise StopIteration
        while not self._events:
            self._events.extend(self._receive())
        event = self._events.popleft()
        if isinstance(event, Step):
            return event
        self._ended = True
        if event.error is not None:
            raise event.error
        raise StopIteration

    def close(self) -> None:
        """Stop the generation, if it goes on."""
        self._running.drop()

    def _receive(self) -> Sequence[Step | End]:
        while True:
            try:
                # With a timeout, because Windows lets Ctrl-C through only between waits.
                return self._inbox.get(timeout=_WATCH_SECONDS)
            except queue.Empty:
                if not self._running.alive and self._inbox.empty():
                    raise GenerationError(
                        "The thread that runs the model is gone: threads do not survive os.fork. "
                        "Make the engine in the child process.",
                        code="engine-dead",
                    ) from None


class AsyncSteps(AsyncIterator[Step]):
    """Steps for a task of the event loop that runs. They come by the loop's own queue of calls: no
    thread waits for the task, and the task waits for no thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Sequence[Step | End]] = asyncio.Queue()
        self._events: deque[Step | End] = deque()
        self._running: RunningRequest | None = None
        self._closed = False
        self._ended = False

    def begin(self, begin: Begin) -> None:
        """Begin the generation; any thread may do so, since it may take moments.

        Raises:
            MLCError: it cannot be begun.
        """
        self._running = running = begin(_receiver(self._loop, self._inbox))
        weakref.finalize(self, running.drop).atexit = False
        if self._closed:  # By a task that was cancelled meanwhile.
            running.drop()

    async def __anext__(self) -> Step:
        if self._ended:
            raise StopAsyncIteration
        while not self._events:
            self._events.extend(await self._inbox.get())
        event = self._events.popleft()
        if isinstance(event, Step):
            return event
        self._ended = True
        if event.error is not None:
            raise event.error
        raise StopAsyncIteration

    def close(self) -> None:
        """Stop the generation, if it goes on or is about to begin."""
        self._closed = True
        if self._running is not None:
            self._running.drop()


def _receiver(
    loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Sequence[Step | End]]
) -> Receiver:
    """Puts steps into a queue of a loop; those that come when the loop is closed have no reader."""

    def receive(events: Sequence[Step | End]) -> None:
        try:
            loop.call_soon_threadsafe(inbox.put_nowait, events)
        except RuntimeError:
            if not loop.is_closed():
                raise

    return receive
