"""How the comparison talks to the side it measures: JSON lines over a child's stdin and stdout.

Each side is a child process that holds its model. It says ``{"ready": {...}}`` once, with what is
worth knowing of itself, and then answers each request with the seconds that it took.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Protocol

import numpy as np

from benchmarks.byte_tokenizer import byte_token

PRINTABLE = (33, 127)
"""Prompts are characters from this range, so that they are tokens and text alike."""


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
        variant: which of several prompts, below the number of printable characters.
    """
    first, end = PRINTABLE
    codes = np.random.default_rng([7, variant]).integers(first, end, length, dtype=np.uint8)
    codes[0] = first + variant
    return codes.tobytes().decode("ascii")


def tokens(text: str) -> list[int]:
    """The token ids of a prompt."""
    return [byte_token(code) for code in text.encode("ascii")]


def serve(side: Side) -> None:
    """Answer requests from stdin until it closes."""
    answers = os.fdopen(os.dup(1), "w")
    # Whatever a library prints goes to stderr, not between the answers.
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    answer({"ready": side.about()})
    for line in sys.stdin:
        request = json.loads(line)
        text = prompt(request["tokens"], request["variant"])
        if request["measure"] == "prefill":
            answer({"seconds": side.prefill(text)})
        else:
            answer({"seconds": side.decode(text, request["steps"])})
