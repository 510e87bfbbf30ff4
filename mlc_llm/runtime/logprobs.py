"""Log-probabilities of chosen tokens and of those that were likely in their place."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.selection import RunningSums, top

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TokenLogprob:
    """A token and how likely the model took it to be.

    Args:
        token_id: the token.
        text: its text alone; a token that is only a part of a character has U+FFFD.
        logprob: the natural logarithm of its probability.
        top: for a token of an answer, the likeliest tokens in its place, the likeliest first.
    """

    token_id: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class LogprobRecorder:
    """Gives the log-probabilities of tokens, of the model's own distribution.

    That is the softmax of the logits as the model gave them: before biases, penalties, the
    temperature and whatever else sampling makes of them.

    Args:
        count: how many of the likeliest tokens to give for each; may be 0.
        token_text: a token's text.
    """

    def __init__(self, count: int, token_text: Callable[[int], str]) -> None:
        self._count = count
        self._token_text = token_text

    def record(self, logits: Floats, token_id: int) -> TokenLogprob:
        """The log-probability of a token, and the likeliest ones.

        Args:
            logits: float32 of shape (V,), none of them NaN.
            token_id: the token that was chosen.
        """
        largest = logits.max()
        total = RunningSums(np.exp(logits - largest)).total
        normalizer = float(largest) + math.log(total)
        likeliest: list[int] = []
        if self._count:
            found = top(logits, min(self._count, logits.size))
            likeliest = found[np.argsort(-logits[found], kind="stable")].tolist()

        def entry(token: int, alternatives: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
            logprob = float(logits[token]) - normalizer
            return TokenLogprob(token, self._token_text(token), logprob, alternatives)

        return entry(token_id, tuple(entry(token) for token in likeliest))
