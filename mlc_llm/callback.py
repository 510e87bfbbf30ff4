"""Callbacks: how an answer reaches the user while it is being written.

A callback is any callable that takes ``(message, stopped)``: the whole text so far, and whether
the answer is complete. :class:`DeltaCallback` turns that into the new part of the text each time.

Attributes that ``ChatModule`` looks for on a callback, all optional:

- ``callback_interval``: call after every that many tokens (1 when there is none);
- ``failed(error)``: called when the generation ends in an error;
- ``closed``: when true, the text is not wanted any more, and the generation stops.
"""

from __future__ import annotations

import logging
import numbers
import queue
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from mlc_llm.errors import ConfigError
from mlc_llm.shown import shown

logger = logging.getLogger("mlc_llm")

_WATCH_SECONDS = 1.0
"""Windows lets Ctrl-C through only between waits, so that no wait is longer than this."""

_END = object()


class ProgressCallback(Protocol):
    """What ``generate(progress_callback=...)`` takes."""

    def __call__(self, message: str, stopped: bool) -> Any:
        """Take the whole text so far; ``stopped`` is true once, with the complete text."""


class DeltaCallback(ABC):
    """Base of the callbacks that want only what is new.

    One object may be used for one answer after another, but not for two at once.

    Args:
        callback_interval: how many tokens are generated between two calls; at least 1.

    Raises:
        ConfigError: the interval is not a positive whole number.
    """

    def __init__(self, callback_interval: int = 2) -> None:
        if isinstance(callback_interval, bool) or not isinstance(callback_interval, int):
            raise ConfigError(f"callback_interval must be an int, not {shown(callback_interval)}.")
        if callback_interval < 1:
            raise ConfigError(
                f"callback_interval must be at least 1, not {shown(callback_interval)}."
            )
        self.callback_interval = callback_interval
        self._message = ""

    def __call__(self, message: str = "", stopped: bool = False) -> None:
        """Take the whole text so far, and pass on what is new.

        Args:
            message: the whole text so far. With ``stopped`` it may be left out.
            stopped: whether the answer is complete.
        """
        if message or not stopped:
            # Text only ever grows; if it did not, the last answer never came to its end.
            seen = len(self._message) if message.startswith(self._message) else 0
            self._message = message
            if delta := message[seen:]:
                self.delta_callback(delta)
        if stopped:
            self._message = ""
            self.stopped_callback()

    def failed(self, error: BaseException) -> None:
        """Take note that the generation ended in an error; the caller of ``generate`` gets it."""
        self._message = ""

    @abstractmethod
    def delta_callback(self, delta_message: str) -> None:
        """Take the text that is new since the last call."""

    @abstractmethod
    def stopped_callback(self) -> None:
        """Take note that the answer is complete."""


class StreamToStdout(DeltaCallback):
    """Writes the answer to stdout as it comes, and a newline at its end.

    Characters that stdout's encoding cannot show are replaced.
    """

    def __init__(self, callback_interval: int = 2) -> None:
        super().__init__(callback_interval)

    def delta_callback(self, delta_message: str) -> None:
        _write(delta_message)

    def stopped_callback(self) -> None:
        _write("\n")

    def failed(self, error: BaseException) -> None:
        """End the line that was begun, so that what follows starts on its own."""
        begun = self._message and not self._message.endswith("\n")
        super().failed(error)
        # A closed pipe is what failed: writing to it would only fail again.
        if begun and not isinstance(error, OSError):
            _write("\n")


def _write(text: str) -> None:
    """Write to whatever ``sys.stdout`` is now; there may be none, as under ``pythonw``."""
    stdout = sys.stdout
    if stdout is None:
        return
    encoding = getattr(stdout, "encoding", None) or "utf-8"
    stdout.write(text.encode(encoding, "replace").decode(encoding, "replace"))
    stdout.flush()


class StreamIterator(DeltaCallback):
    """Hands the answer to another thread, which iterates over its parts.

    ::

        stream = StreamIterator()
        thread = Thread(
            target=chat.generate, kwargs={"prompt": ..., "progress_callback": stream}
        )
        thread.start()
        for delta in stream:
            ...

    An error of the generation is raised in the iterating thread as well. Another ``for`` loop
    after the end waits for the next answer that the same object is used for.

    Args:
        callback_interval: how many tokens are generated between two parts.
        timeout: seconds to wait for the next part; None to wait as long as it takes.

    Raises:
        ConfigError: the interval or the timeout is out of its range.
    """

    def __init__(self, callback_interval: int = 2, timeout: float | None = None) -> None:
        super().__init__(callback_interval)
        if timeout is not None and not (isinstance(timeout, numbers.Real) and timeout > 0):
            raise ConfigError(f"timeout must be more than 0 seconds or None, not {shown(timeout)}.")
        # No lock waits longer, which is 292 years.
        self.timeout = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        self._parts: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._ended = False
        self._closed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether the reader has closed the stream."""
        return self._closed.is_set()

    def delta_callback(self, delta_message: str) -> None:
        self._parts.put(delta_message)

    def stopped_callback(self) -> None:
        self._parts.put(_END)

    def failed(self, error: BaseException) -> None:
        """Hand the error to the reader."""
        super().failed(error)
        self._parts.put(_Failure(error))

    def close(self) -> None:
        """Stop reading: the generation stops at its next token, and the iteration ends."""
        self._closed.set()
        self._parts.put(_END)

    def __iter__(self) -> Iterator[str]:
        self._ended = False
        return self

    def __next__(self) -> str:
        """Return the next part of the answer.

        Raises:
            StopIteration: the answer is complete.
            TimeoutError: no part came within the timeout.
            BaseException: the error that ended the generation.
        """
        if self._ended or self.closed:
            raise StopIteration
        part = self._take()
        self._ended = not isinstance(part, str)
        if isinstance(part, _Failure):
            raise part.error
        if self._ended or self.closed:
            raise StopIteration
        text: str = part
        return text

    def _take(self) -> Any:
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while True:
            wait = _WATCH_SECONDS if deadline is None else deadline - time.monotonic()
            try:
                return self._parts.get(timeout=max(0.0, min(wait, _WATCH_SECONDS)))
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"No text came within {self.timeout} seconds. Is a generation running "
                        "with this StreamIterator as its progress_callback? A larger timeout "
                        "waits longer."
                    ) from None


class _Failure:
    """An error on its way to the reader."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Progress:
    """Calls a callback at its interval while an answer grows.

    Args:
        callback: the user's callback, or None for nothing to be called.

    Raises:
        ConfigError: it cannot be called, or its interval is not a number of tokens.
    """

    def __init__(self, callback: Callable[..., Any] | None) -> None:
        if callback is not None and not callable(callback):
            raise ConfigError(
                "progress_callback must be a function of (message, stopped), or None, not "
                f"{shown(callback)}.",
                code="argument-mistyped",
            )
        interval = getattr(callback, "callback_interval", 1)
        if not isinstance(interval, int):
            raise ConfigError(f"callback_interval must be an int, not {shown(interval)}.")
        self._callback = callback
        self._interval = max(1, interval)
        self._text = ""
        self._shown = 0
        self._tokens = 0

    @property
    def closed(self) -> bool:
        """Whether the text is not wanted any more."""
        return bool(getattr(self._callback, "closed", False))

    def advance(self, text: str, tokens: int) -> None:
        """Take note of ``text`` that is new, and of ``tokens`` that were generated for it."""
        self._text += text
        self._tokens += tokens
        if self._tokens >= self._interval:
            self._show()

    def finish(self) -> None:
        """Take note that the answer is complete."""
        if self._callback is None:
            return
        self._show()
        self._callback(self._text, True)

    def fail(self, error: BaseException) -> None:
        """Tell the callback of the error; what it raises itself must not hide it."""
        failed = getattr(self._callback, "failed", None)
        if failed is None:
            return
        try:
            failed(error)
        except Exception:
            logger.exception("The callback %r failed while it was told of an error", failed)

    def _show(self) -> None:
        """Call the callback, if there is text that it has not seen."""
        if self._callback is None or self._shown == len(self._text):
            return
        self._shown, self._tokens = len(self._text), 0
        self._callback(self._text, False)
