"""Callbacks: deltas, stdout, and the iterator for another thread."""

from __future__ import annotations

import io
import logging
import math
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc_llm.callback import DeltaCallback, Progress, StreamIterator, StreamToStdout
from mlc_llm.testing import raises


class Collect(DeltaCallback):
    """Remembers what it is called with."""

    def __init__(self, callback_interval: int = 2) -> None:
        super().__init__(callback_interval)
        self.deltas: list[str] = []
        self.stops = 0

    def delta_callback(self, delta_message: str) -> None:
        self.deltas.append(delta_message)

    def stopped_callback(self) -> None:
        self.stops += 1


@given(st.lists(st.text(max_size=4)), st.integers(1, 5))
def test_deltas_add_up(pieces: list[str], interval: int) -> None:
    callback = Collect(interval)
    progress = Progress(callback)
    for piece in pieces:
        progress.advance(piece, 1)
    progress.finish()
    assert "".join(callback.deltas) == "".join(pieces)
    assert "" not in callback.deltas
    assert callback.stops == 1
    assert len(callback.deltas) <= len(pieces) // interval + 1


def test_message_is_the_whole_text_so_far() -> None:
    calls: list[tuple[str, bool]] = []
    progress = Progress(lambda message, stopped: calls.append((message, stopped)))
    for text, tokens in [("a", 1), ("b", 1), ("", 1), ("c", 1), ("d", 0)]:
        progress.advance(text, tokens)
    progress.finish()
    assert calls == [("a", False), ("ab", False), ("abc", False), ("abcd", False), ("abcd", True)]


def test_one_object_serves_one_answer_after_another() -> None:
    callback = Collect()
    callback("Hello")
    callback("Hello you")
    callback(stopped=True)
    callback("Hello")
    callback("Hello!", True)
    assert callback.deltas == ["Hello", " you", "Hello", "!"]
    assert callback.stops == 2
    callback("broken off")
    callback.failed(ValueError())
    callback("broken off again")
    assert callback.deltas[-1] == "broken off again"
    callback("anew")  # the last answer never came to its end
    assert callback.deltas[-1] == "anew"


@pytest.mark.parametrize("interval", [0, -1, 1.5, True, "2"])
def test_a_wrong_interval_is_refused(interval: int) -> None:
    with raises("config-invalid", "callback_interval", repr(interval)):
        StreamToStdout(callback_interval=interval)
    with raises("config-invalid", "callback_interval"):
        StreamToStdout(callback_interval=-(10**5000))


def test_stdout_gets_the_text_and_a_newline(capsys: pytest.CaptureFixture[str]) -> None:
    callback = StreamToStdout(callback_interval=2)
    callback("Grüße")
    callback("Grüße, 世界")
    callback("Grüße, 世界", True)
    assert capsys.readouterr() == ("Grüße, 世界\n", "")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"a? ?\n"), ("cp1252", b"a\xfc ?\n"), ("utf-8", None)]
)
def test_narrow_stdout_never_fails(
    monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes | None
) -> None:
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding=encoding, newline="\n"))
    callback = StreamToStdout()
    callback("aü 世")
    callback(stopped=True)
    assert buffer.getvalue() == (shown or "aü 世\n".encode())


def test_without_stdout_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    callback = StreamToStdout()
    callback("text", True)


def test_a_failed_answer_ends_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    callback = StreamToStdout()
    callback("half a ")
    callback.failed(KeyboardInterrupt())
    callback.failed(KeyboardInterrupt())
    assert capsys.readouterr().out == "half a \n"


def write(stream: StreamIterator, texts: list[str], error: BaseException | None = None) -> None:
    """What a generating thread does with its callback."""
    progress = Progress(stream)
    for piece in texts:
        progress.advance(piece, 1)
    if error is None:
        progress.finish()
    else:
        progress.fail(error)


def reading(stream: StreamIterator, *arguments: object) -> Iterator[str]:
    thread = threading.Thread(target=write, args=(stream, *arguments))
    thread.start()
    yield from stream
    thread.join()


def test_the_iterator_reads_what_another_thread_writes() -> None:
    pieces = ["Once", "", "", " upon", "", " a", " time", ""]
    stream = StreamIterator(callback_interval=1)
    assert list(reading(stream, pieces)) == ["Once", " upon", " a", " time"]
    assert list(reading(stream, ["again"])) == ["again"]  # the same object, another answer
    with pytest.raises(StopIteration):
        next(stream)


def test_the_iterator_gets_the_error_after_the_text() -> None:
    stream = StreamIterator(callback_interval=1)
    parts = reading(stream, ["a", "b"], ZeroDivisionError("in the other thread"))
    assert [next(parts), next(parts)] == ["a", "b"]
    with pytest.raises(ZeroDivisionError, match="in the other thread"):
        next(parts)
    with pytest.raises(StopIteration):
        next(stream)


def test_the_iterator_does_not_wait_for_ever() -> None:
    with pytest.raises(TimeoutError, match=r"No text came within 0\.01 seconds"):
        next(StreamIterator(timeout=0.01))
    for timeout in (0, -1, math.nan, "5", [5], 1j):
        with raises("config-invalid", "timeout", repr(timeout)):
            StreamIterator(timeout=timeout)  # type: ignore[arg-type]
    assert StreamIterator(timeout=10**5000).timeout == threading.TIMEOUT_MAX


def test_a_closed_iterator_ends_and_says_so() -> None:
    stream = StreamIterator()
    progress = Progress(stream)
    progress.advance("some", 2)
    assert next(stream) == "some"
    assert not progress.closed
    stream.close()
    assert progress.closed
    assert list(stream) == []


def test_a_callback_that_fails_while_told_of_an_error(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Collect):
        def failed(self, error: BaseException) -> None:
            raise RuntimeError("broken")

    with caplog.at_level(logging.ERROR, "mlc_llm"):
        Progress(Broken()).fail(ValueError())
    assert "failed while it was told" in caplog.text
