"""The lock of a conversation: threads and asyncio tasks get it in the order of asking."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from mlc_llm.errors import GenerationError

if TYPE_CHECKING:
    import asyncio

_WATCH_SECONDS = 1.0

_LOOP_ROUNDS = 4
"""A stream that a task has dropped (``async for ...: break``) is closed by asyncio some rounds of
its loop later; a task waits that long before it is told that its own stream is in its way."""


_STALLED_SECONDS = 10.0
"""A thread that waits for a stream which it itself took the last step of waits no longer than this
without a step of it."""

THREAD_NAME = "mlc_llm"
"""What the names of this package's own threads begin with; none of them steps a user's stream."""


class FairLock:
    """A fair lock for threads and asyncio tasks. It is released when its owner ends.

    ``threading.Lock`` promises no order, and a thread that holds it and asks again waits for ever.
    Here that is an error, because it can happen by accident: a callback that calls ``generate``,
    or a stream that was left open before the next question. A stream that another thread may go
    on with, as in a web server's pool, is waited for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Ticket] = deque()

    @contextmanager
    def take(self) -> Iterator[Ticket]:
        """Wait for the lock, blocking the thread, and hold it inside the ``with`` block.

        Raises:
            GenerationError: this very thread holds the lock already, and waiting would be for ever:
                it is inside the call that does, or holds a stream that no other thread goes on
                with; or it stands in the queue with an asyncio task, which could not go on.
        """
        ticket = Ticket()
        try:
            self._join(ticket, lambda other: other.thread == ticket.thread and not other.moves())
            # With a timeout, because Windows lets Ctrl-C through only between waits.
            while not ticket.ready.done():
                try:
                    ticket.ready.result(_WATCH_SECONDS)
                except TimeoutError:
                    if self._has(lambda other: other.thread == ticket.thread and other.stalled()):
                        raise _in_its_own_way() from None
            yield ticket
        finally:
            self._leave(ticket)

    def take_async(self) -> _AsyncTurn:
        """Wait for the lock without blocking the event loop, and hold it inside the block.

        ``async with`` raises:
            GenerationError: this very task holds the lock already.
        """
        return _AsyncTurn(self)

    async def _wait(self, ticket: Ticket) -> None:
        import asyncio

        for _ in range(_LOOP_ROUNDS):
            if self._has(lambda other: other.task is ticket.task):
                await asyncio.sleep(0)
        self._join(ticket, lambda other: other.task is ticket.task)
        # Without the shield, cancelling the task would cancel the ticket's own future.
        await asyncio.shield(asyncio.wrap_future(ticket.ready))

    def _has(self, is_same: Callable[[Ticket], bool]) -> bool:
        with self._lock:
            return any(map(is_same, self._waiting))

    def _join(self, ticket: Ticket, is_same: Callable[[Ticket], bool]) -> None:
        with self._lock:
            if any(map(is_same, self._waiting)):
                raise _in_its_own_way()
            self._waiting.append(ticket)
            self._call_first()

    def _leave(self, ticket: Ticket) -> None:
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self._call_first()

    def _call_first(self) -> None:
        if self._waiting and not self._waiting[0].ready.done():
            self._waiting[0].ready.set_result(None)


class _AsyncTurn(AbstractAsyncContextManager["Ticket"]):
    """What :meth:`FairLock.take_async` returns. It is not made of an asynchronous generator: a loop
    that ends closes all of those at once, this one while another still holds the lock by it."""

    def __init__(self, lock: FairLock) -> None:
        self._lock, self._ticket = lock, Ticket()

    async def __aenter__(self) -> Ticket:
        self._ticket.resumed()
        try:
            await self._lock._wait(self._ticket)
        except BaseException:
            self._lock._leave(self._ticket)
            raise
        return self._ticket

    async def __aexit__(self, *_: object) -> None:
        self._lock._leave(self._ticket)


class Ticket:
    """One caller's place in the queue.

    Attributes:
        ready: is done when the caller holds the lock.
        thread: the thread that holds the lock, or waits for it.
        task: the asyncio task that does, if one does.
    """

    def __init__(self) -> None:
        self.ready: Future[None] = Future()
        self.thread: int
        self.task: asyncio.Task[Any] | None
        self._suspended: float | None
        self.resumed()

    def suspended(self) -> None:
        """Note that the lock's owner is a generator that waits for its next step."""
        self._suspended = time.monotonic()

    def resumed(self) -> None:
        """Note who uses the lock now; a generator may change its thread or task."""
        self.thread = threading.get_ident()
        self.task = _current_task()
        self._suspended = None

    def abandon(self) -> None:
        """Note that the lock is not used any more, and is about to be released."""
        self.thread, self.task = -1, None

    def moves(self) -> bool:
        """Whether another thread may take the next step, while this one waits for it."""
        return self._suspended is not None and self.task is None and _other_threads()

    def stalled(self) -> bool:
        """Whether no step was taken for so long that none is expected any more."""
        since = self._suspended
        return since is not None and time.monotonic() - since > _STALLED_SECONDS


def _other_threads() -> bool:
    """Whether there are threads beside this one that a stream may be stepped in."""
    own = threading.current_thread()
    return any(
        thread is not own and not thread.name.startswith(THREAD_NAME)
        for thread in threading.enumerate()
    )


def _in_its_own_way() -> GenerationError:
    return GenerationError(
        "This thread or task is in the middle of another call on the same chat: a stream that is "
        "still open, or a callback. Exhaust or close the stream first, or let the callback return. "
        "(In asyncio, use astream and agenerate.)",
        code="chat-busy",
    )


def _current_task() -> asyncio.Task[Any] | None:
    """The asyncio task that this is called from, if it is called from one."""
    if "asyncio" not in sys.modules:  # A program without it is spared the import.
        return None
    import asyncio

    try:
        return asyncio.current_task()
    except RuntimeError:  # No event loop runs in this thread.
        return None
