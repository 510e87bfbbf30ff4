"""The lock is given in order, and nothing waits for itself."""

from __future__ import annotations

import threading

import pytest

from mlc_llm.chat.fair_lock import FairLock
from mlc_llm.errors import GenerationError


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
    with lock.take(), pytest.raises(GenerationError, match="still open, or a callback"):
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
