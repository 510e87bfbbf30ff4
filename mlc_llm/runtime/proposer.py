"""Guesses at what an answer goes on with: what followed the same tokens earlier in the context.

That is right where a text repeats itself, as an edit of a file or a summary does (Saxena, "Prompt
Lookup Decoding", 2023). A guess is computed in one pass with the last token, and what the sampler
would not have chosen is dropped, so it changes the speed of an answer and not its text.
"""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST, _SHORTEST = 5, 3
"""How many of the last tokens must have stood together before."""

_MOST = 7
"""Most tokens of a guess: on a CPU a pass of eight tokens takes as long as two to four of one."""

_TOKENS_PER_GUESS = 2
"""A guess has this many tokens for each that the last ones were right about, and at least two."""

_PAYS = 0.7
"""How many tokens of a guess must be right, in the mean, for guesses to be worth their time."""

_WEIGHT = 0.25
"""How much the last guess counts in that mean."""

_PAUSE = 32
"""How many tokens are written without a guess when they do not pay; each time twice as many."""


class Proposer:
    """Guesses for one answer; it stops by itself for a while where they are mostly wrong."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, ...], int] = {}
        self._indexed = 0
        self._mean = 2.0
        self._waits, self._pause = 0, _PAUSE

    def propose(self, ids: Sequence[int], most: int) -> Sequence[int]:
        """Tokens that may follow.

        Args:
            ids: all tokens so far.
            most: of how many at most.
        """
        if self._waits:
            self._waits -= 1
            return ()
        self._index(ids)
        count = min(most, _MOST, max(2, round(_TOKENS_PER_GUESS * self._mean)))
        for length in range(_LONGEST, _SHORTEST - 1, -1):
            end = self._ends.get(tuple(ids[-length:]))
            if end is not None:
                return _copy(ids, end, count)
        return ()

    def learn(self, guessed: int, right: int) -> None:
        """Note how many tokens of a guess were right."""
        self._mean += _WEIGHT * (right - self._mean)
        if self._mean < _PAYS:
            self._waits, self._pause = self._pause, 2 * self._pause
            self._mean = _PAYS  # The next guess decides.
        elif right == guessed:
            self._pause = _PAUSE

    def _index(self, ids: Sequence[int]) -> None:
        """Remember what stands where, up to the token before the last one."""
        for end in range(max(self._indexed, _SHORTEST), len(ids)):
            for length in range(_SHORTEST, _LONGEST + 1):
                if length <= end:
                    self._ends[tuple(ids[end - length : end])] = end
        self._indexed = max(self._indexed, len(ids))


def _copy(ids: Sequence[int], begin: int, count: int) -> list[int]:
    """Tokens from a place on; where they end, those that were copied follow, as in a rhythm."""
    copied = [*ids[begin : begin + count]]
    period = len(ids) - begin
    while len(copied) < count:
        copied.append(copied[len(copied) - period])
    return copied
