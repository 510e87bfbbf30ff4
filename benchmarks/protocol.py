"""How the comparison talks to the side it measures: JSON lines over a child's stdin and stdout.

Each side is a child process that holds its model. It says ``{"ready": {...}}`` once, with what is
worth knowing of itself, and then answers each request with the seconds that it took.
"""

from __future__ import annotations

import json
import os
import string
import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from benchmarks.byte_tokenizer import byte_token

DIGITS = "0123456789"
FIRSTS = DIGITS + string.ascii_letters
"""Prompts are digits after a letter or digit, each of which is a token: in the tokenizers of random
models, where every byte is one, and in those of Llama and SmolLM2."""


class Side(Protocol):
    """One implementation under measurement. Its model stays loaded between requests.

    Prompts come as the text and are tokens by :func:`tokens`, the same for all sides.
    """

    def about(self) -> dict[str, Any]:
        """Versions and settings, for the report."""

    def prefill(self, text: str) -> float:
        """Seconds from an empty KV cache to the first token that follows ``text``."""

    def decode(self, text: str, steps: int) -> float:
        """Seconds to generate ``steps`` tokens greedily, one at a time, after ``text``.

        Taking the text in is not counted, and neither is the first token, which it gives. The KV
        cache of the text may be kept for the next request.
        """


def prompt(length: int, variant: int = 0) -> str:
    """Random text that is ``length`` tokens.

    A shorter prompt is the start of a longer one of the same variant. Two variants differ from
    their first character on, which leaves nothing to a cache of prompts.

    Args:
        length: how many tokens, at least 1.
        variant: which of several prompts, below the number of :data:`FIRSTS`.
    """
    codes = np.random.default_rng([7, variant]).integers(0, len(DIGITS), length - 1)
    return FIRSTS[variant] + "".join(DIGITS[code] for code in codes)


def tokens(text: str) -> list[int]:
    """The token ids of a prompt, in a model where every byte is a token.

    Other models have other tokens there, which take as long.
    """
    return [byte_token(code) for code in text.encode("ascii")]


def serve(side: Side) -> None:
    """Answer requests from stdin until it closes."""

    def measure(request: dict[str, Any]) -> dict[str, Any]:
        text = prompt(request["tokens"], request["variant"])
        if request["measure"] == "prefill":
            return {"seconds": side.prefill(text)}
        return {"seconds": side.decode(text, request["steps"])}

    answer_requests(side.about(), measure)


def answer_requests(
    about: dict[str, Any], measure: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    """Answer requests from stdin until it closes.

    Args:
        about: what is worth knowing of the side.
        measure: gives the answer to a request.
    """
    answers = os.fdopen(os.dup(1), "w")
    # Whatever a library prints goes to stderr, not between the answers.
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    answer({"ready": about})
    for line in sys.stdin:
        answer(measure(json.loads(line)))
