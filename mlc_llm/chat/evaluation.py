"""How well a model predicts a text: its perplexity, and how near it is to another model.

The text is cut into windows of equally many tokens, each of which begins with the token that begins
a text, if the model has one. Every token of a window is predicted from those before it in the same
window, so that a longer window gives a lower perplexity: compare figures of one window size only.

With a reference, both models read the same tokens, and at each place the reference's distribution p
is compared with the model's distribution q: the Kullback-Leibler divergence is the mean of
``sum(p * (log p - log q))`` in nats (Kullback & Leibler, "On Information and Sufficiency", 1951).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.errors import ConfigError
from mlc_llm.tokenizer import Tokenizer

Floats = npt.NDArray[np.float32]
ReadAs = Literal["prompt", "answer"]
"""Whether a text is read many tokens at a time, or one after the other as answers are."""

_BLOCK = 1 << 20
"""Probabilities that are worked on at a time: few enough to stay in the processor's cache."""


@dataclass(frozen=True)
class Comparison:
    """How near a model is to its reference.

    Args:
        kl_divergence: mean of the divergence from the reference, in nats.
        largest_kl_divergence: the largest of them.
        largest_error: the largest difference of a logit.
        same_token: share of the places where both find the same token likeliest.
    """

    kl_divergence: float
    largest_kl_divergence: float
    largest_error: float
    same_token: float


@dataclass(frozen=True)
class Evaluation:
    """How well a model predicts a text.

    Args:
        tokens: how many tokens were predicted.
        perplexity: of the text.
        comparison: how near it is to the reference, where there is one.
    """

    tokens: int
    perplexity: float
    comparison: Comparison | None = None


class Reader:
    """Gives the logits of a loaded model for every place of a text.

    Args:
        chat: the model.
        read_as: whether it reads as it reads prompts, or as it reads its own answers.
    """

    def __init__(self, chat: LoadedChat, read_as: ReadAs) -> None:
        self._chat = chat
        self._many = read_as == "prompt"
        rows = max(1, 16 * _BLOCK // chat.model.vocab_size)
        self._rows = min(rows, chat.model.window.chunk) if self._many else 1

    def read(self, ids: Sequence[int]) -> Iterator[Floats]:
        """The logits after each token of a text, which is read from an empty cache.

        Args:
            ids: the tokens; no more than the model's window.

        Yields:
            float32 of shape (tokens, vocab_size), a few tokens at a time.
        """
        model = self._chat.model
        self._chat.engine.call(lambda stop: model.reset())
        for first in range(0, len(ids), self._rows):
            yield self._logits(ids[first : first + self._rows])

    def _logits(self, ids: Sequence[int]) -> Floats:
        model = self._chat.model
        if self._many:
            return self._chat.engine.call(lambda stop: np.array(model.score(ids)))
        [token] = ids
        return self._chat.engine.call(lambda stop: np.array([model.decode(token)]))


def windows(tokenizer: Tokenizer, text: str, size: int, most: int | None = None) -> list[list[int]]:
    """The tokens of a text in windows, of which the last may be shorter.

    Args:
        tokenizer: of the model.
        text: the text.
        size: tokens of a window; at least 2.
        most: tokens of the text that are taken; None for all.

    Raises:
        ConfigError: the text has too few tokens to predict one.
    """
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    ids = tokenizer.encode(text)[:most]
    step = size - len(begin)
    cut = [[*begin, *ids[first : first + step]] for first in range(0, len(ids), step)]
    whole = [window for window in cut if len(window) > 1]
    if not whole:
        raise ConfigError(
            "The text is too short: it has no token that could be predicted from one before it.",
            code="text-short",
        )
    return whole


def evaluate(
    model: Reader, cut: Sequence[Sequence[int]], reference: Reader | None = None
) -> Iterator[tuple[int, Evaluation]]:
    """Measure a model on windows of a text.

    Args:
        model: the model.
        cut: the windows; see :func:`windows`.
        reference: a model of the same vocabulary that it is compared with.

    Yields:
        After each window its number of tokens, and what is known so far.
    """
    sums = _Sums(reference is not None)
    for window in cut:
        given, next_ids = window[:-1], window[1:]
        expected = None if reference is None else _rows(reference.read(given))
        for next_id, logits in zip(next_ids, _rows(model.read(given)), strict=True):
            sums.add(logits, next_id, None if expected is None else next(expected))
        yield len(window), sums.result()


def _rows(parts: Iterator[Floats]) -> Iterator[Floats]:
    for part in parts:
        yield from part


class _Sums:
    """What is added up, in float64, over the places of a text."""

    def __init__(self, compared: bool) -> None:
        self._compared = compared
        self._tokens = self._same = 0
        self._surprise = self._divergence = 0.0
        self._worst = self._error = 0.0

    def add(self, logits: Floats, next_id: int, expected: Floats | None) -> None:
        """Count one place.

        Args:
            logits: (vocab_size,), the model's.
            next_id: the token that follows in the text.
            expected: the reference's logits, likewise.
        """
        found = _log_softmax(logits)
        self._tokens += 1
        self._surprise -= found[next_id]
        if expected is None:
            return
        wanted = _log_softmax(expected)
        # A rounding error may take it below zero, which it never is.
        divergence = max(0.0, float((np.exp(wanted) * (wanted - found)).sum()))
        self._divergence += divergence
        self._worst = max(self._worst, divergence)
        self._error = max(self._error, float(np.abs(logits - expected).max()))
        self._same += int(logits.argmax() == expected.argmax())

    def result(self) -> Evaluation:
        """What was added up so far."""
        count = self._tokens
        comparison = None
        if self._compared:
            comparison = Comparison(
                self._divergence / count, self._worst, self._error, self._same / count
            )
        return Evaluation(count, math.exp(self._surprise / count), comparison)


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - math.log(np.exp(shifted).sum())
