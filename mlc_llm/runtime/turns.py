"""Taking turns: threads that use one conversation are served in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from mlc_llm.errors import GenerationError

_WATCH_SECONDS = 1.0


class Turns:
    """A first-come, first-served lock that refuses to wait for its own thread.

    ``threading.Lock`` promises no order, and a thread that holds it and asks again waits for ever.
    Here that is an error, because it can happen by accident: a callback that calls ``generate``,
    or a stream that was left open before the next question.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Turn] = deque()

    @contextmanager
    def take(self) -> Iterator[Turn]:
        """Wait for the turn, and hold it inside the ``with`` block.

        Raises:
            GenerationError: this very thread holds the turn already.
        """
        turn = Turn()
        try:
            self._join(turn)
            # With a timeout, because Windows lets Ctrl-C through only between waits.
            while not turn.ready.wait(_WATCH_SECONDS):
                pass
            yield turn
        finally:
            self._leave(turn)

    def _join(self, turn: Turn) -> None:
        with self._lock:
            if self._waiting and self._waiting[0].thread == turn.thread:
                raise GenerationError(
                    "This thread is in the middle of another call on the same chat: a stream that "
                    "is still open, or a callback. Exhaust or close the stream first, or let the "
                    "callback return."
                )
            self._waiting.append(turn)
            self._waiting[0].ready.set()

    def _leave(self, turn: Turn) -> None:
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            if self._waiting:
                self._waiting[0].ready.set()


class Turn:
    """One caller's place in the queue."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.thread = threading.get_ident()

    def resumed(self) -> None:
        """Note that the calling thread now uses the turn; a generator may change threads."""
        self.thread = threading.get_ident()
