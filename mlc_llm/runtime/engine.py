"""The engine thread: everything of one model that touches TVM runs in it.

TVM keeps its thread pool in the thread that first used it, so a model must always be run from the
same thread. Any thread may ask. Calls run in the order in which they came; between them, and as
long as there is none, the steps of what writes the answers do (:mod:`mlc_llm.runtime.scheduler`).
"""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from mlc_llm.errors import GenerationError
from mlc_llm.runtime.answer import Delta
from mlc_llm.runtime.outbox import Outbox, Sink

T = TypeVar("T")

_WATCH_SECONDS = 1.0
"""How often a caller that waits looks whether the engine thread still lives."""

_JOIN_SECONDS = 10.0
"""How long ``close`` waits for a request that is running to stop."""


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


class Answering(Protocol):
    """An answer that is wanted; see :class:`mlc_llm.runtime.generation.Generation`."""

    cancelled: bool

    @property
    def sink(self) -> Sink:
        """Where its steps go."""


class Steps(Protocol):
    """Writes answers, a step at a time; see :class:`mlc_llm.runtime.scheduler.Scheduler`."""

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""

    def add(self, answer: Any, /) -> None:
        """Take an answer that is wanted; must not raise."""

    def step(self) -> None:
        """Do the next step."""

    def fail(self, error: BaseException, /) -> None:
        """End all answers with an error."""


@dataclass
class _Call:
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
    """One daemon thread and its queue of calls; see also :mod:`mlc_llm.runtime.threads`.

    Args:
        name: what the thread is called, as debuggers show it.
    """

    def __init__(self, name: str = "mlc_llm engine") -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: _Call | None = None
        self._steps: Steps | None = None
        self._closed = False
        self._ended = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        _engines.add(self)

    @property
    def alive(self) -> bool:
        """Whether calls are still served."""
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
        call = _Call(function)
        try:
            self._put(call)
            result: T = self._wait(call)
        except BaseException:
            call.future.cancel()
            call.stop.set()
            raise
        return result

    def run_steps(self, steps: Steps) -> None:
        """From now on run steps between the calls; to be called in the engine thread."""
        self._steps = steps

    def submit(self, answer: Answering) -> None:
        """Have an answer written; :meth:`run_steps` was given what writes it.

        Raises:
            GenerationError: the engine is closed or its thread is dead.
        """
        call = _Call(lambda stop: self._add(answer))
        call.future.add_done_callback(partial(_end_if_failed, answer.sink))
        self._put(call)

    def steps_of(self, outbox: Outbox) -> Generator[Delta, None, None]:
        """The steps of an answer that was submitted, and that has this outbox.

        The engine runs ahead of the reader, as far as the outbox lets it.

        Raises:
            GenerationError: the engine is closed or its thread is dead.
            BaseException: what writing the answer raised.
        """
        while (batch := self._receive(outbox)) is not None:
            yield from batch

    def cancel(self, answer: Answering) -> None:
        """Have an answer not be written any further; any thread may call this."""
        answer.cancelled = True
        self.wake()

    def wake(self) -> None:
        """Have the engine look again whether there is work; any thread may call this."""
        self._calls.put(_Call(_nothing))

    def close(self) -> None:
        """Stop what is running, refuse what waits, and end the thread. May be called twice."""
        self.abandon()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    def abandon(self) -> None:
        """:meth:`close` without waiting: for finalizers, which run in any thread at any time."""
        # No lock: the thread that the garbage collector interrupts may hold it.
        self._closed = True
        self._calls.put(None)
        running = self._running
        if running is not None:
            running.stop.set()

    def _put(self, call: _Call) -> None:
        with self._lock:
            if not self.alive:
                raise self._unavailable()
            self._calls.put(call)

    def _add(self, answer: Answering) -> None:
        if self._steps is None:
            raise ValueError("nothing writes answers: run_steps was not called")
        self._steps.add(answer)

    def _wait(self, call: _Call) -> Any:
        while True:
            try:
                return call.future.result(_WATCH_SECONDS)
            except TimeoutError:
                # A call may itself raise TimeoutError; then the future is done.
                if call.future.done():
                    raise
            except CancelledError:
                # Only the caller itself and ``close`` stop a call, and the caller is here.
                raise self._unavailable() from None
            if not self._thread.is_alive() and not call.future.done():
                # As in a forked child, where no thread will answer any more.
                raise self._unavailable()

    def _receive(self, outbox: Outbox) -> list[Delta] | None:
        while True:
            try:
                return outbox.get(_WATCH_SECONDS)
            except queue.Empty:
                if not self._thread.is_alive() and outbox.is_empty:
                    raise self._unavailable() from None

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
            while not self._closed:
                call = self._next_call()
                if call is not None:
                    self._run(call)
                    # What the call holds on to must not live until the next one comes.
                    del call
                elif self._steps is not None and self._steps.has_work:
                    self._step(self._steps)
        finally:
            self._refuse_waiting()

    def _next_call(self) -> _Call | None:
        """The next call. None where there is none while steps have work, or the engine closes."""
        try:
            return self._calls.get(block=self._steps is None or not self._steps.has_work)
        except queue.Empty:
            return None

    def _run(self, call: _Call) -> None:
        with self._lock:
            self._running = call
            if self._closed:
                call.stop.set()
        if self._closed:
            call.fail(self._unavailable())
        else:
            call.run()
        with self._lock:
            self._running = None

    def _step(self, steps: Steps) -> None:
        try:
            steps.step()
        except Exception as error:
            steps.fail(error)

    def _refuse_waiting(self) -> None:
        with self._lock:
            self._ended = True
        if self._steps is not None:
            self._steps.fail(self._unavailable())
            self._steps = None
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None:
                call.fail(self._unavailable())


def _end_if_failed(sink: Sink, added: Future[Any]) -> None:
    if (error := added.exception()) is not None:
        sink.end(error)


def _nothing(_stop: Stop) -> None:
    """A call that only wakes the engine."""


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_engines() -> None:
    """End the threads before the interpreter goes: one inside TVM at that time would crash."""
    for engine in list(_engines):
        engine.close()
