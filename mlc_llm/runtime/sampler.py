"""Choosing the next token from a model's logits.

The steps, in this order: ``logit_bias``; the penalties; what the answer's grammar does not allow is
left out, if it has one; temperature; ``top_k``; ``top_p`` of what is left; ``min_p``; one draw.

The penalties follow the conventions of the field, which models' own settings are made for:
``repetition_penalty`` counts the tokens of the prompt and of the answer so far (as Hugging Face
does), ``presence_penalty`` and ``frequency_penalty`` those of the answer only (as OpenAI does). The
repetition penalty comes first, as in vLLM.

A vocabulary of 128 k takes less than 0.2 ms; it is not sorted (see :mod:`mlc_llm.runtime.selection`
and ``benchmarks/sampling.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConfigError, GenerationError
from mlc_llm.runtime.constraint import STUCK, Words, token_ids
from mlc_llm.runtime.selection import draw_nucleus, top
from mlc_llm.shown import shown

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: logits divided by them would overflow."""

_LEAST_UNSHIFTED, _LARGEST_UNSHIFTED = -10.0, 70.0
"""Between these a largest logit need not be subtracted first, which saves a pass: the exponentials
do not overflow float32, nor does their sum, and what underflows is below e**-77 of the largest."""


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are chosen.

    Args:
        temperature: 0 takes the likeliest token always; larger is more random.
        top_p: the smallest set of tokens whose probability reaches it is kept; 1 keeps all.
        top_k: how many of the likeliest tokens are kept; 0 keeps all.
        min_p: least probability kept, as a share of the likeliest token's; 0 keeps all.
        repetition_penalty: the logits of the tokens of prompt and answer are divided by it where
            positive and multiplied where negative; 1 changes nothing.
        presence_penalty: taken off the logits of generated tokens.
        frequency_penalty: taken off a token's logit each time it was generated.
        logit_bias: added to the logits, by token id.

    Raises:
        ConfigError: a value is out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "above 0"),
            "presence_penalty": (-2 <= self.presence_penalty <= 2, "from -2 to 2"),
            "frequency_penalty": (-2 <= self.frequency_penalty <= 2, "from -2 to 2"),
        }
        for name, (holds, wanted) in ranges.items():
            value = getattr(self, name)
            if not holds or not math.isfinite(value):
                raise ConfigError(f"{name} must be {wanted}, not {shown(value)}.")
        for token_id, bias in self.logit_bias.items():
            if token_id < 0 or not math.isfinite(bias):
                raise ConfigError(f"logit_bias is wrong for the token {token_id}: {shown(bias)}.")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < GREEDY_BELOW

    @property
    def penalizes(self) -> bool:
        """Whether the tokens so far change the logits."""
        penalties = self.presence_penalty or self.frequency_penalty
        return bool(penalties) or self.repetition_penalty != 1.0


class Sampler:
    """Chooses the tokens of one answer, and counts those it has chosen.

    Args:
        settings: how to choose.
        seed: makes the choices reproducible; None draws one from the operating system.
        prompt_ids: the prompt's tokens, which the repetition penalty counts.
    """

    def __init__(
        self,
        settings: SamplingSettings,
        seed: int | None = None,
        prompt_ids: Iterable[int] = (),
    ) -> None:
        self.settings = settings
        self._random = np.random.default_rng(seed)
        bias = settings.logit_bias
        self._bias_ids = np.fromiter(bias.keys(), np.intp, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))
        self._seen = SeenTokens(prompt_ids if settings.repetition_penalty != 1.0 else ())
        self._size = -1
        self._work = np.empty(0, np.float32)

    def sample(self, logits: Floats, allowed: Words | None = None) -> int:
        """Choose the next token, and count it.

        Args:
            logits: shape (V,), any float dtype; read only. V is the same at every call.
            allowed: the tokens that may be chosen, shape (ceil(V / 32),), as
                :meth:`mlc_llm.runtime.constraint.Constraint.allowed` gives them; None for all.

        Returns:
            The token's id.

        Raises:
            GenerationError: the logits hold a NaN or an infinity, or exclude every token; or no
                token is allowed.
            ConfigError: ``logit_bias`` names a token that the model does not have.
        """
        logits = np.asarray(logits, dtype=np.float32)
        if logits.shape != (self._size,):
            self._prepare(logits.shape)
        adjusted = self._adjust(logits)
        token = self._choose(adjusted) if allowed is None else self._choose_of(adjusted, allowed)
        self._seen.add(token)
        return token

    def count(self, token: int) -> None:
        """Count a token that the answer got without sampling."""
        self._seen.add(token)

    def _prepare(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 1 or shape[0] == 0 or self._size > 0:
            raise GenerationError(f"Logits of shape {shape} cannot be sampled from.")
        size = shape[0]
        if unknown := [int(token) for token in self._bias_ids if token >= size]:
            raise ConfigError(
                f"logit_bias names the tokens {unknown}; the model has {size}.",
                code="token-unknown",
            )
        self._size = size
        self._work = np.empty(size, np.float32)

    def _adjust(self, logits: Floats) -> Floats:
        """The logits with bias and penalties; the logits themselves when there are none."""
        settings, seen = self.settings, self._seen
        penalizes = settings.penalizes and seen.ids.size > 0
        if not penalizes and not self._bias_ids.size:
            return logits
        work = self._work
        np.copyto(work, logits)
        work[self._bias_ids] += self._bias
        if penalizes:
            values = work[seen.ids]
            factor = np.float32(settings.repetition_penalty)
            values = np.where(values > 0, values / factor, values * factor)
            values -= np.float32(settings.presence_penalty) * (seen.counts > 0)
            values -= np.float32(settings.frequency_penalty) * seen.counts
            work[seen.ids] = values
        return work

    def _choose_of(self, logits: Floats, allowed: Words) -> int:
        """Choose one of the tokens that are allowed."""
        if allowed.shape != (-(-logits.size // 32),):
            raise GenerationError(
                f"A set of tokens of shape {allowed.shape} is not for {logits.size} tokens."
            )
        ids = token_ids(allowed, logits.size)
        if not ids.size:
            raise GenerationError(STUCK, code="grammar-stuck")
        return int(ids[self._choose(logits.take(ids), ids)])

    def _choose(self, logits: Floats, ids: Indices | None = None) -> int:
        """Choose an index of the logits.

        Args:
            logits: those of the tokens that may be chosen.
            ids: these tokens, for messages; None where the indices are the ids.
        """
        likeliest = int(logits.argmax())
        largest = float(logits[likeliest])
        if not math.isfinite(largest):  # The first NaN counts as the largest of all.
            token = likeliest if ids is None else int(ids[likeliest])
            raise GenerationError(
                f"The model gave {largest} as its largest logit (token {token}); no token can "
                "be chosen. Its weights may be damaged, or too large for their dtype.",
                code="logits-not-finite",
            )
        return likeliest if self.settings.greedy else self._draw(logits, largest)

    def _draw(self, logits: Floats, largest: float) -> int:
        settings = self.settings
        kept: Indices | None = None
        if 0 < settings.top_k < logits.size:
            kept = top(logits, settings.top_k)
            logits = logits[kept]
        weights = self._weights(logits, largest)
        least = settings.min_p * float(weights.max()) if settings.min_p > 0.0 else 0.0
        index = draw_nucleus(weights, settings.top_p, least, self._random.random)
        return index if kept is None else int(kept[index])

    def _weights(self, logits: Floats, largest: float) -> Floats:
        """The tokens' probabilities up to a factor."""
        weights: Floats = self._work[: logits.size]
        factor = 1.0 / self.settings.temperature
        with np.errstate(over="ignore"):  # Towards minus infinity, whose exponential is 0.
            if not _LEAST_UNSHIFTED <= largest * factor <= _LARGEST_UNSHIFTED:
                logits = np.subtract(logits, np.float32(largest), out=weights)
            if factor != 1.0:
                logits = np.multiply(logits, np.float32(factor), out=weights)
        return np.exp(logits, out=weights)


class SeenTokens:
    """The tokens of a prompt and of the answer to it, each once.

    Args:
        prompt_ids: the prompt's tokens.
    """

    def __init__(self, prompt_ids: Iterable[int]) -> None:
        self._positions: dict[int, int] = {}
        self._ids = np.empty(64, np.intp)
        self._counts = np.zeros(64, np.float32)
        for token in prompt_ids:
            self._position(token)

    @property
    def ids(self) -> Indices:
        """The tokens' ids."""
        return self._ids[: len(self._positions)]

    @property
    def counts(self) -> Floats:
        """How often each is in the answer; 0 for those that only the prompt has."""
        return self._counts[: len(self._positions)]

    def add(self, token: int) -> None:
        """Count a token of the answer."""
        position = self._position(token)
        self._counts[position] += 1

    def _position(self, token: int) -> int:
        position = self._positions.setdefault(token, len(self._positions))
        if position == self._ids.size:
            self._ids = np.resize(self._ids, 2 * position)
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[position] = token
        return position
