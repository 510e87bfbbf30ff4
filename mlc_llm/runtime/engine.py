"""The engine thread: everything of one model that touches TVM runs in it, in order.

TVM keeps its thread pool in the thread that first used it, so a model must always be run from the
same thread. Any thread may ask; the requests wait in one queue, first come, first served.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mlc_llm.errors import GenerationError

T = TypeVar("T")

_WATCH_SECONDS = 1.0
"""How often a caller that waits looks whether the engine thread still lives."""

_JOIN_SECONDS = 10.0
"""How long ``close`` waits for a request that is running to stop."""

_STOP_SECONDS = 0.1
"""How often a producer that waits for its consumer looks whether it is asked to stop."""

_WAKE_SECONDS = 0.01
"""How often a consumer is woken for new events, when they come faster than that."""

_WAKES_AT_ONCE = 3
"""How often it is woken at once when it was not for a while: prefill, first token, second token."""

_MOST_BATCHES = 64
"""How many times a consumer that does not read is given events; then the producer waits."""

_END = object()


class Stop:
    """Asks the request that is running to stop; long requests look at it between their steps."""

    def __init__(self) -> None:
        self._asked = False

    def set(self) -> None:
        """Ask to stop."""
        self._asked = True

    def check(self) -> None:
        """Raise ``CancelledError`` when the request was asked to stop."""
        if self._asked:
            raise CancelledError


@dataclass
class _Request:
    """A function that waits in the queue, and where its result goes."""

    function: Callable[[Stop], Any]
    future: Future[Any] = field(default_factory=Future)
    stop: Stop = field(default_factory=Stop)

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function(self.stop)
        except BaseException as error:
            self.future.set_exception(error)
            # The traceback holds this frame: without this it would hold itself, and the model.
            del self
        else:
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Engine:
    """One daemon thread and its queue of requests; see also :mod:`mlc_llm.runtime.threads`.

    Args:
        name: what the thread is called, as debuggers show it.
    """

    def __init__(self, name: str = "mlc_llm engine") -> None:
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: _Request | None = None
        self._closed = False
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        _engines.add(self)

    @property
    def alive(self) -> bool:
        """Whether requests are still served."""
        return not (self._closed or self._ended) and self._thread.is_alive()

    def call(self, function: Callable[[Stop], T]) -> T:
        """Run ``function`` in the engine thread and return what it returns.

        Args:
            function: gets a :class:`Stop`, which it should check between long steps. When the
                caller is interrupted while it waits, the function is asked to stop.

        Raises:
            GenerationError: the engine is closed or its thread is dead.
            BaseException: what the function raised.
        """
        if threading.current_thread() is self._thread:
            return function(Stop())
        request = _Request(function)
        try:
            self._put(request)
            result: T = self._wait(request)
        except BaseException:
            request.future.cancel()
            request.stop.set()
            raise
        return result

    def stream(self, produce: Callable[[Stop], Iterator[T]]) -> Generator[T, None, None]:
        """Run an iterator in the engine thread and pass on what it yields.

        The engine runs ahead of the consumer, who gets events that come in quick succession a few
        at a time: to wake it takes a core from the model. Of a consumer that does not read, it
        runs ahead by a bounded number of them. When the consumer stops early (its generator is
        closed, or an exception goes through it), the producer is closed at its next step, and the
        engine takes the next request.

        Args:
            produce: makes the iterator, in the engine thread.

        Raises:
            GenerationError: the engine is closed or its thread is dead.
            BaseException: what the producer raised.
        """
        events = _Events()
        request = _Request(lambda stop: _produce(produce, events, stop))
        request.future.add_done_callback(lambda _: events.end())
        try:
            self._put(request)
            while (batch := self._receive(request, events)) is not _END:
                yield from batch
            self._wait(request)
        finally:
            request.future.cancel()
            request.stop.set()

    def close(self) -> None:
        """Stop what is running, refuse what waits, and end the thread. May be called twice."""
        self.abandon()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def abandon(self) -> None:
        """:meth:`close` without waiting: for finalizers, which run in any thread at any time."""
        # No lock: the thread that the garbage collector interrupts may hold it.
        self._closed = True
        self._requests.put(None)
        running = self._running
        if running is not None:
            running.stop.set()

    def _put(self, request: _Request) -> None:
        with self._lock:
            if not self.alive:
                raise self._unavailable()
            self._requests.put(request)

    def _wait(self, request: _Request) -> Any:
        while True:
            try:
                return request.future.result(_WATCH_SECONDS)
            except TimeoutError:
                # A request may itself raise TimeoutError; then the future is done.
                if request.future.done():
                    raise
            except CancelledError:
                # Only the caller itself and ``close`` stop a request, and the caller is here.
                raise self._unavailable() from None
            self._check_thread(request)

    def _receive(self, request: _Request, events: _Events) -> Any:
        while True:
            try:
                return events.get()
            except queue.Empty:
                self._check_thread(request)

    def _check_thread(self, request: _Request) -> None:
        """Raise where no thread will answer any more, as in a forked child, which has none."""
        if not self._thread.is_alive() and not request.future.done():
            raise self._unavailable()

    def _unavailable(self) -> GenerationError:
        if self._closed:
            return GenerationError(
                "The model is closed; load it again to use it.", code="chat-closed"
            )
        return GenerationError(
            "The model's engine thread is dead, so nothing can be run any more. Load the model "
            "again. (A model loaded before os.fork cannot be used in the child process.)",
            code="engine-dead",
        )

    def _serve(self) -> None:
        try:
            while (request := self._requests.get()) is not None:
                with self._lock:
                    self._running = request
                    if self._closed:
                        request.stop.set()
                if self._closed:
                    request.fail(self._unavailable())
                else:
                    request.run()
                with self._lock:
                    self._running = None
                # What the request holds on to must not live until the next one comes.
                del request
        finally:
            self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        with self._lock:
            self._ended = True
        while True:
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return
            if request is not None:
                request.fail(self._unavailable())


class _Events:
    """What a producer has for its consumer, in batches."""

    def __init__(self) -> None:
        self._batches: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._room = threading.Semaphore(_MOST_BATCHES)

    def put(self, batch: list[Any], stop: Stop) -> None:
        """Add a batch; waits for the consumer when it has not read many of them.

        Raises:
            CancelledError: the request was asked to stop meanwhile.
        """
        while not self._room.acquire(timeout=_STOP_SECONDS):
            stop.check()
        self._batches.put(batch)

    def put_last(self, batch: list[Any]) -> None:
        """Add what is left when the producer ends; never waits."""
        self._batches.put(batch)

    def end(self) -> None:
        """Add the end."""
        self._batches.put(_END)

    def get(self) -> Any:
        """The next batch, or the end; raises ``queue.Empty`` when none comes for a while."""
        batch = self._batches.get(timeout=_WATCH_SECONDS)
        self._room.release()
        return batch


def _produce(produce: Callable[[Stop], Iterator[T]], events: _Events, stop: Stop) -> None:
    """Put what the iterator yields into ``events`` until it ends or is asked to stop."""
    iterator = produce(stop)
    pace = _Pace()
    batch: list[T] = []
    try:
        for event in iterator:
            batch.append(event)
            if pace.allows():
                events.put(batch, stop)
                batch = []
            stop.check()
    finally:
        events.put_last(batch)
        if isinstance(iterator, Generator):
            iterator.close()


class _Pace:
    """Says when to wake a consumer: every ``_WAKE_SECONDS``, and what was not used before."""

    def __init__(self) -> None:
        self._saved = float(_WAKES_AT_ONCE)
        self._time = time.monotonic()

    def allows(self) -> bool:
        """Whether to wake it now."""
        now = time.monotonic()
        passed = (now - self._time) / _WAKE_SECONDS
        self._saved, self._time = min(self._saved + passed, _WAKES_AT_ONCE), now
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_engines() -> None:
    """End the threads before the interpreter goes: one inside TVM at that time would crash."""
    for engine in list(_engines):
        engine.close()
