"""Turns are served in order, and nobody waits for himself."""

from __future__ import annotations

import threading

import pytest

from mlc_llm.errors import GenerationError
from mlc_llm.runtime.turns import Turns


def test_first_come_first_served() -> None:
    turns, served = Turns(), []
    threads = []

    def serve(number: int) -> None:
        with turns.take():
            served.append(number)

    with turns.take():
        for number in range(10):
            thread = threading.Thread(target=serve, args=(number,))
            thread.start()
            threads.append(thread)
            while len(turns._waiting) < number + 2:
                thread.join(0.001)
    for thread in threads:
        thread.join()
    assert served == list(range(10))


def test_a_thread_does_not_wait_for_itself() -> None:
    turns = Turns()
    again = turns.take()
    with turns.take(), pytest.raises(GenerationError, match="still open, or a callback"):
        again.__enter__()
    with turns.take():
        pass


def test_a_turn_may_move_to_another_thread() -> None:
    turns = Turns()
    opened = turns.take()
    turn = opened.__enter__()
    raised: list[BaseException] = []

    def elsewhere() -> None:
        turn.resumed()
        try:
            with turns.take():
                pass
        except GenerationError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(raised) == 1
    opened.__exit__(None, None, None)


def test_an_error_gives_the_turn_back() -> None:
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.take():
        raise ZeroDivisionError
    with turns.take():
        pass
