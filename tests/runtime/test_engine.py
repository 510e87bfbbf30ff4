"""The engine thread: order, results, errors, cancellation, and that nothing hangs."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

from mlc_llm.errors import GenerationError
from mlc_llm.runtime import engine as engine_module
from mlc_llm.runtime import outbox as outbox_module
from mlc_llm.runtime.engine import Engine, Stop
from mlc_llm.runtime.outbox import Outbox, Pace
from mlc_llm.testing import raises

Produce = Callable[[], Iterator[Any]]


class Produced:
    """An answer whose steps are what an iterator gives."""

    def __init__(self, produce: Produce, outbox: Outbox) -> None:
        self.produce, self.sink, self.cancelled = produce, outbox, False
        self.iterator: Iterator[Any] | None = None


class Producers:
    """Takes a step of each answer in turn, as a scheduler does."""

    def __init__(self) -> None:
        self.answers: list[Produced] = []

    @property
    def has_work(self) -> bool:
        return any(one.cancelled or not one.sink.is_full for one in self.answers)

    def add(self, answer: Produced) -> None:
        self.answers.append(answer)

    def step(self) -> None:
        for answer in [*self.answers]:
            if answer.cancelled:
                self.leave(answer)
            elif not answer.sink.is_full:
                self.advance(answer)

    def advance(self, answer: Produced) -> None:
        try:
            answer.iterator = answer.iterator or answer.produce()
            answer.sink.put(next(answer.iterator))
        except StopIteration:
            self.leave(answer)
            answer.sink.end()
        except Exception as error:
            self.leave(answer)
            answer.sink.end(error)

    def fail(self, error: BaseException) -> None:
        for answer in [*self.answers]:
            self.leave(answer)
            answer.sink.end(error)

    def leave(self, answer: Produced) -> None:
        self.answers.remove(answer)
        if isinstance(answer.iterator, Generator):
            answer.iterator.close()


@pytest.fixture
def engine(engine: Engine) -> Engine:
    """An engine with something that writes answers."""
    engine.run_steps(Producers())
    return engine


def produced(engine: Engine, produce: Produce) -> Generator[Any, None, None]:
    """Have an answer produced, until the reader stops."""
    outbox = Outbox(engine.wake)
    answer = Produced(produce, outbox)
    engine.submit(answer)
    try:
        yield from engine.steps_of(outbox)
    finally:
        engine.cancel(answer)


def test_calls_return_and_raise(engine: Engine) -> None:
    assert engine.call(lambda stop: 42) == 42
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda stop: 1 // 0)
    with pytest.raises(TimeoutError, match="mine"):
        engine.call(lambda stop: _raise(TimeoutError("mine")))
    with pytest.raises(SystemExit):
        engine.call(lambda stop: _raise(SystemExit(3)))
    assert engine.call(lambda stop: threading.current_thread().daemon)


def _raise(error: BaseException) -> None:
    raise error


def test_everything_runs_in_one_thread(engine: Engine) -> None:
    def threads() -> Iterator[int]:
        yield threading.get_ident()
        yield engine.call(lambda stop: threading.get_ident())  # from inside: at once

    found = {engine.call(lambda stop: threading.get_ident()), *produced(engine, threads)}
    assert len(found) == 1
    assert threading.get_ident() not in found


def occupy(engine: Engine) -> threading.Event:
    """Keep the engine busy until the event that is returned is set."""
    started, gate = threading.Event(), threading.Event()

    def wait(stop: Stop) -> None:
        started.set()
        gate.wait()

    threading.Thread(target=engine.call, args=(wait,), daemon=True).start()
    started.wait()
    return gate


def test_ten_threads_are_served_in_order(engine: Engine) -> None:
    served: list[int] = []
    results: dict[int, int] = {}
    gate = occupy(engine)

    def ask(number: int) -> None:
        def run(stop: Stop) -> int:
            served.append(number)
            return number * number

        results[number] = engine.call(run)

    threads = []
    for number in range(10):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        while engine._calls.qsize() <= number:
            threads[-1].join(0.001)
    gate.set()
    for thread in threads:
        thread.join()
    assert served == list(range(10))
    assert results == {number: number * number for number in range(10)}


def test_streams_pass_events_and_errors(engine: Engine) -> None:
    def events() -> Iterator[int]:
        yield from range(5)
        raise ValueError("after five")

    stream = produced(engine, events)
    assert [next(stream) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="after five"):
        next(stream)
    assert list(produced(engine, lambda: iter(()))) == []
    with pytest.raises(KeyError):
        list(produced(engine, lambda: _raise(KeyError("no iterator"))))


def test_the_first_events_are_passed_on_at_once(engine: Engine) -> None:
    """Those of the prompt and of the first token are not held back for the next one."""
    received = threading.Event()

    def events() -> Iterator[int]:
        yield from range(3)
        yield 3 if received.wait(30) else -1

    stream = produced(engine, events)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    received.set()
    assert list(stream) == [3]


def test_a_consumer_is_not_woken_for_each_of_many_quick_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, *(0.002 * number for number in range(1, 1001))])
    monkeypatch.setattr("mlc_llm.runtime.outbox.time.monotonic", lambda: next(clock))
    pace = Pace()
    wakes = [pace.allows() for _ in range(1000)]
    assert wakes[:3] == [True, True, True]
    assert 200 <= sum(wakes) <= 203  # each 10 ms of 2 s, and what was saved up before


def test_closing_a_stream_stops_the_producer(engine: Engine) -> None:
    closed = threading.Event()

    def forever() -> Iterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    stream = produced(engine, forever)
    assert next(stream) == 0
    stream.close()
    assert closed.wait(30)


def test_an_exception_in_the_consumer_stops_the_producer(engine: Engine) -> None:
    def forever() -> Iterator[int]:
        while True:
            yield 1

    def consume() -> None:
        for _ in produced(engine, forever):
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        consume()
    assert engine.call(lambda stop: 1) == 1


def test_a_stream_that_is_dropped_stops(engine: Engine) -> None:
    def forever() -> Iterator[int]:
        while True:
            yield 1

    stream = produced(engine, forever)
    next(stream)
    del stream
    gc.collect()
    assert engine.call(lambda stop: 1) == 1


def test_a_cancelled_call_that_waits_never_runs(engine: Engine) -> None:
    gate, ran = occupy(engine), []

    def produce() -> Iterator[int]:
        ran.append(1)
        yield 1

    stream = produced(engine, produce)
    stream.close()  # a generator that was never started asks for nothing
    gate.set()
    engine.call(lambda stop: None)
    assert ran == []


def test_close_ends_what_runs_and_refuses_what_waits() -> None:
    engine = Engine()
    started = threading.Event()
    raised: list[BaseException] = []

    def forever(stop: Stop) -> None:
        started.set()
        while True:
            time.sleep(0)
            stop.check()

    def ask() -> None:
        try:
            engine.call(forever)
        except GenerationError as error:
            raised.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    engine.close()
    engine.close()
    for thread in threads:
        thread.join()
    assert not engine.alive
    assert len(raised) == 3
    assert {error.code for error in raised} == {"chat-closed"}
    with raises("chat-closed", error=GenerationError):
        engine.call(lambda stop: 1)
    with raises("chat-closed", error=GenerationError):
        next(produced(engine, lambda: iter([1])))


def test_close_cuts_a_stream_with_an_error() -> None:
    engine = Engine()
    engine.run_steps(Producers())

    def forever() -> Iterator[int]:
        while True:
            yield 1

    stream = produced(engine, forever)
    next(stream)
    engine.close()
    with raises("chat-closed", error=GenerationError):
        for _ in stream:
            pass


def test_a_dead_thread_answers_with_an_error(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    monkeypatch.setattr(engine_module, "_WATCH_SECONDS", 0.05)
    identity = engine.call(lambda stop: threading.get_ident())
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(identity), ctypes.py_object(_Killed))
    with pytest.raises((GenerationError, _Killed)):
        engine.call(lambda stop: 1)
    engine._thread.join(5)
    with raises("engine-dead", error=GenerationError):
        engine.call(lambda stop: 1)
    with raises("engine-dead", error=GenerationError):
        list(produced(engine, lambda: iter([1])))


class _Killed(BaseException):
    """What no code of the engine's catches on purpose."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a POSIX call")
def test_a_forked_child_gets_an_error() -> None:
    program = """
import os
from mlc_llm.runtime.engine import Engine
engine = Engine()
assert engine.call(lambda stop: 1) == 1
child = os.fork()
if child == 0:
    try:
        engine.call(lambda stop: 1)
    except Exception as error:
        os._exit(7 if (error.code, "os.fork" in str(error)) == ("engine-dead", True) else 8)
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert _run(program).stdout.strip() == "7"


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_interrupts_the_caller_and_stops_the_request() -> None:
    program = f"""
import os, signal, threading
from mlc_llm.runtime.engine import Engine
engine = Engine()
stopped = threading.Event()
def forever(stop):
    os.kill(os.getpid(), {int(signal.SIGINT)})
    try:
        while True:
            stop.check()
    finally:
        stopped.set()
for _ in range(2):
    try:
        engine.call(forever)
    except KeyboardInterrupt:
        print("interrupted", engine.call(lambda stop: "usable"))
print(stopped.is_set())
"""
    assert _run(program).stdout.split("\n")[:3] == ["interrupted usable"] * 2 + ["True"]


def test_the_program_ends_while_a_request_runs() -> None:
    program = """
import threading
from mlc_llm.runtime.engine import Engine
engine = Engine()
def forever(stop):
    while True:
        stop.check()
def ask():
    try:
        engine.call(forever)
    except Exception as error:
        print(error)
threading.Thread(target=ask, daemon=True).start()
"""
    assert _run(program).returncode == 0


def test_results_are_not_kept(engine: Engine) -> None:
    class Large:
        pass

    large = Large()
    seen = weakref.ref(large)

    def give(stop: Stop, large: Large = large) -> Large:
        return large

    del large
    engine.call(give)
    del give
    engine.call(lambda stop: None)
    gc.collect()
    assert seen() is None


def test_idle_uses_no_cpu(engine: Engine) -> None:
    engine.call(lambda stop: None)
    before = time.process_time()
    threading.Event().wait(0.2)
    assert time.process_time() - before < 0.05


def test_a_consumer_that_does_not_read_holds_the_producer_back(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_MOST_BATCHES", 5)
    monkeypatch.setattr(Pace, "allows", lambda pace: True)
    read: list[int] = []
    leads: list[int] = []
    ahead = threading.Event()

    def events() -> Iterator[int]:
        for number in range(100):
            leads.append(number + 1 - len(read))
            if leads[-1] == 5:
                ahead.set()
            yield number

    stream = produced(engine, events)
    read.append(next(stream))
    assert ahead.wait(30)
    for number in stream:
        read.append(number)
    assert read == list(range(100))
    # One is being read, and five wait.
    assert max(leads) <= 6


def test_a_producer_that_waits_for_its_consumer_is_stopped(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_MOST_BATCHES", 1)
    monkeypatch.setattr(Pace, "allows", lambda pace: True)
    stream = produced(engine, lambda: iter(range(1000)))
    assert next(stream) == 0
    stream.close()
    assert engine.call(lambda stop: 42) == 42


def test_abandoning_waits_for_nothing() -> None:
    """A finalizer may run in any thread, also in one that holds the engine's lock."""
    engine = Engine()
    gate = occupy(engine)
    with engine._lock:
        engine.abandon()
    assert not engine.alive
    with raises("chat-closed", error=GenerationError):
        engine.call(lambda stop: 42)
    gate.set()
    engine._thread.join(30)
    assert not engine._thread.is_alive()
