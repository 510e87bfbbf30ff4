"""llguidance's matchers, made within limits of time, memory and stack."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Result = TypeVar("Result")

STACK_BYTES = 256 * 2**20
"""llguidance goes through a grammar recursively, and does not watch its stack. This is enough for
the deepest grammars that are let through: 5,000 schemas in one another take 25 MB. It is reserved:
only what is touched takes memory."""

INITIAL_LEXER_FUEL = 500_000
"""What may be spent on the first set of tokens, in llguidance's measure. Its default is twice as
much, with which ``(?:a{1000}){1000}`` takes many seconds before it is refused."""

MAX_LEXER_STATES = 50_000
"""Of 1 to 2 kB each; llguidance's default is five times as many."""

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


def new_matcher(tokenizer: LLTokenizer, grammar: str) -> LLMatcher:
    """Begin a grammar; what is wrong with it is told by the matcher.

    Args:
        tokenizer: the tokens.
        grammar: in llguidance's form.
    """
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(
        initial_lexer_fuel=INITIAL_LEXER_FUEL,
        max_lexer_states=MAX_LEXER_STATES,
        verbose_errors=False,
    )
    return with_deep_stack(lambda: LLMatcher(tokenizer, grammar, log_level=0, limits=limits))


def failure(matcher: LLMatcher) -> str:
    """What a matcher says of its failure in a sentence; empty where it did not fail."""
    return matcher.get_error().partition("\n<")[0].strip().rstrip(".")


def is_stuck(matcher: LLMatcher) -> bool:
    """Whether a matcher failed because no token can follow, and the text is not complete."""
    return failure(matcher).startswith("NoExtension")
