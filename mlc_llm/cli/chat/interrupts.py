"""Ctrl-C stops an answer, and never the chat, however often it is pressed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType


class Interrupts:
    """Takes SIGINT while it is entered: it is dropped, except where :meth:`allowed` is.

    A key that is held down sends many signals, of which the later ones would hit the clean-up that
    the first one caused. Only the main thread may enter.
    """

    def __init__(self) -> None:
        self._allowed = False

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
        """Inside of the block the first SIGINT raises ``KeyboardInterrupt``."""
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._allowed:
            self._allowed = False
            raise KeyboardInterrupt
