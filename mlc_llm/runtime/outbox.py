"""How the steps of an answer go from the engine thread to whoever reads them.

To wake a reader takes a core from the model, so steps that come in quick succession are handed over
a few at a time.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from typing import Protocol

from mlc_llm.runtime.answer import Delta

_WAKE_SECONDS = 0.01
"""How often a reader is woken for new steps, when they come faster than that."""

_WAKES_AT_ONCE = 3
"""How often it is woken at once when it was not for a while: prefill, first token, second token."""

_MOST_BATCHES = 64
"""How many times a reader that does not read is given steps; then its answer waits."""


class Sink(Protocol):
    """Takes the steps of one answer, in the engine thread; nothing of it may block."""

    @property
    def is_full(self) -> bool:
        """Whether the reader is so far behind that the answer should wait."""

    def put(self, delta: Delta, /) -> None:
        """Take a step, which may be handed over later."""

    def flush(self) -> None:
        """Hand over what was taken."""

    def end(self, error: BaseException | None = None, /) -> None:
        """Take the end: an error, or None after the last step."""


class Outbox:
    """Hands the steps of one answer over in batches to a thread that waits for them.

    One thread puts, one gets.

    Args:
        bounded: whether the answer waits for a reader that is far behind.
        room: called by the reader's thread when the outbox is not full any more.
    """

    def __init__(self, room: Callable[[], None], bounded: bool = True) -> None:
        self._room, self._bounded = room, bounded
        self._batches: queue.SimpleQueue[list[Delta] | BaseException | None] = queue.SimpleQueue()
        self._batch: list[Delta] = []
        self._pace = Pace()
        # Each is written by one thread alone.
        self._given = self._taken = 0

    @property
    def is_full(self) -> bool:
        """Whether the reader is so far behind that the answer should wait."""
        return self._bounded and self._given - self._taken >= _MOST_BATCHES

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to get."""
        return self._batches.empty()

    def put(self, delta: Delta) -> None:
        """Add a step."""
        self._batch.append(delta)
        if self._pace.allows():
            self.flush()

    def flush(self) -> None:
        """Hand over what waits."""
        if self._batch:
            self._given += 1
            self._batches.put(self._batch)
            self._batch = []

    def end(self, error: BaseException | None = None) -> None:
        """Hand over what waits, and the end: an error, or None after the last step."""
        self.flush()
        self._batches.put(error)

    def get(self, timeout: float) -> list[Delta] | None:
        """The next steps, or None at the end.

        Args:
            timeout: how many seconds to wait.

        Raises:
            queue.Empty: there are none by then.
            BaseException: what the answer failed with.
        """
        batch = self._batches.get(timeout=timeout)
        if isinstance(batch, BaseException):
            raise batch
        if batch is not None:
            was_full = self.is_full
            self._taken += 1
            if was_full and not self.is_full:
                self._room()
        return batch


class Pace:
    """Says when to wake a reader: every ``_WAKE_SECONDS``, and what was not used before."""

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
