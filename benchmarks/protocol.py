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

VOCABULARY_USED = 30000
"""Prompts use token ids below this, which every shape has."""


class Side(Protocol):
    """One implementation under measurement. Its model stays loaded between requests."""

    def about(self) -> dict[str, Any]:
        """Versions and settings, for the report."""

    def prefill(self, tokens: list[int]) -> float:
        """Seconds to take ``tokens`` into an empty KV cache and have the last one's logits."""

    def decode(self, context: list[int], steps: int) -> float:
        """Seconds to generate ``steps`` tokens greedily, one at a time, after ``context``.

        Taking the context in is not counted. The KV cache of the context may be kept for the
        next request.
        """


def prompt(length: int) -> list[int]:
    """The same random token ids for both sides; a shorter prompt is the start of a longer one."""
    ids = np.random.default_rng(7).integers(3, VOCABULARY_USED, 16384)
    return [int(token) for token in ids[:length]]


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
        if request["measure"] == "prefill":
            answer({"seconds": side.prefill(prompt(request["tokens"]))})
        else:
            answer({"seconds": side.decode(prompt(request["context"]), request["steps"])})
