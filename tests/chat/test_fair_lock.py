"""The lock is given in order, and nothing waits for itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from mlc_llm.chat import fair_lock
from mlc_llm.chat.fair_lock import FairLock
from mlc_llm.errors import GenerationError
from mlc_llm.testing import raises


def test_first_come_first_served() -> None:
    lock, served = FairLock(), []
    threads = []

    def serve(number: int) -> None:
        with lock.take():
            served.append(number)

    with lock.take():
        for number in range(10):
            thread = threading.Thread(target=serve, args=(number,))
            thread.start()
            threads.append(thread)
            while len(lock._waiting) < number + 2:
                thread.join(0.001)
    for thread in threads:
        thread.join()
    assert served == list(range(10))


def test_a_thread_does_not_wait_for_itself() -> None:
    lock = FairLock()
    again = lock.take()
    with lock.take(), raises("chat-busy", error=GenerationError):
        again.__enter__()
    with lock.take():
        pass


def test_a_lock_may_move_to_another_thread() -> None:
    lock = FairLock()
    opened = lock.take()
    ticket = opened.__enter__()
    raised: list[BaseException] = []

    def elsewhere() -> None:
        ticket.resumed()
        try:
            with lock.take():
                pass
        except GenerationError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(raised) == 1
    opened.__exit__(None, None, None)


def test_an_error_releases_the_lock() -> None:
    lock = FairLock()
    with pytest.raises(ZeroDivisionError), lock.take():
        raise ZeroDivisionError
    with lock.take():
        pass


def steps(lock: FairLock, count: int) -> Iterator[int]:
    """A generator that holds the lock between its steps, as a stream does."""
    with lock.take() as ticket:
        for number in range(count):
            ticket.suspended()
            yield number
            ticket.resumed()


def test_a_pool_may_step_two_streams_with_the_same_thread() -> None:
    """The thread of the first stream's last step is given the second: it waits in line."""
    lock = FairLock()
    one, two = steps(lock, 3), steps(lock, 2)
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as other:
        assert first.submit(next, one).result() == 0
        waiting: Future[int] = first.submit(next, two)
        assert other.submit(list, one).result() == [1, 2]
        assert waiting.result() == 0
        assert other.submit(list, two).result() == [1]


def test_a_stream_that_nobody_goes_on_with_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_lock, "_STALLED_SECONDS", 0.0)
    monkeypatch.setattr(fair_lock, "_WATCH_SECONDS", 0.01)
    lock = FairLock()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(next, one := steps(lock, 3)).result() == 0
        with raises("chat-busy", error=GenerationError):
            pool.submit(next, steps(lock, 1)).result()
        assert pool.submit(list, one).result() == [1, 2]


def test_alone_a_thread_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_lock, "_other_threads", lambda: False)
    lock = FairLock()
    one = steps(lock, 2)
    next(one)
    with raises("chat-busy", error=GenerationError):
        next(steps(lock, 1))
    assert list(one) == [1]


def test_only_threads_that_may_step_a_stream_count() -> None:
    before = fair_lock._other_threads()
    done = threading.Event()
    with ExitStack() as stack:
        stack.callback(done.set)
        threading.Thread(target=done.wait, name="mlc_llm engine of a test").start()
        assert fair_lock._other_threads() == before
        threading.Thread(target=done.wait, name="a pool's").start()
        assert fair_lock._other_threads()
