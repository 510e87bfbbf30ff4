"""Calls into llguidance, which goes through a grammar recursively and does not watch its stack."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

STACK_BYTES = 256 * 2**20
"""Room for the deepest grammars that :mod:`mlc_llm.grammar.response_format` lets through: 10,000
schemas in one another took 50 MB. It is reserved and not used: only what is touched takes memory."""

_stack_size = threading.Lock()


def with_deep_stack(call: Callable[[], Result]) -> Result:
    """Call a function in a thread with a large stack, and give what it returns or raises."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="mlc_llm-grammar")
    with _stack_size:  # A setting of the process, for the threads that start from now on.
        before = threading.stack_size(STACK_BYTES)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
