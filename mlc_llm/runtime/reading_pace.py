"""How many tokens of prompts are read in a step, so that answers that are written go on."""

from __future__ import annotations

_LEAST = 16
"""Fewer tokens take as long, since the weights are read all the same."""

_WEIGHT = 0.3
"""How much the last step counts in what the next one is expected to take."""


class ReadingPace:
    """While answers are written, reading takes about as long in each step as writing does.

    So a long prompt makes them about half as fast, or slower where the least chunk takes longer.
    """

    def __init__(self) -> None:
        self._read_seconds = 0.0  # for a token
        self._write_seconds = 0.0  # for a token of each answer

    def read(self, tokens: int, seconds: float) -> None:
        """Note how long it took to read some tokens."""
        self._read_seconds = _mean(self._read_seconds, seconds / tokens)

    def wrote(self, seconds: float) -> None:
        """Note how long it took to write a token of each answer."""
        self._write_seconds = _mean(self._write_seconds, seconds)

    def room(self, most: int) -> int:
        """How many tokens to read while answers wait.

        Args:
            most: of how many at most.
        """
        if not self._read_seconds:
            return most
        tokens = int(self._write_seconds / self._read_seconds)
        return min(most, max(_LEAST, tokens))


def _mean(before: float, value: float) -> float:
    return before + _WEIGHT * (value - before) if before else value
