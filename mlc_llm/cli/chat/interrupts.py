"""Ctrl-C stops an answer, and never the chat, however often it is pressed."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType, TracebackType

_DEAF_SECONDS = 1.0


class Interrupts:
    """Takes SIGINT while it is entered: it is dropped, except where :meth:`allowed` is.

    A key that is held down sends many signals; those that come within a second after the one that
    raised are dropped, because they would hit the clean-up. Only the main thread may enter.
    """

    def __init__(self) -> None:
        self._allowed, self._deaf_until = False, 0.0

    def __enter__(self) -> Interrupts:
        self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside of the block SIGINT raises ``KeyboardInterrupt``, then none for a second."""
        self._allowed, self._deaf_until = True, 0.0
        try:
            yield
        finally:
            self._allowed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._allowed and now >= self._deaf_until:
            self._deaf_until = now + _DEAF_SECONDS
            raise KeyboardInterrupt
