"""A model whose logits are random, so that an answer shows what its constraint lets through."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import GenerationError
from mlc_llm.runtime.constraint import Constraint
from mlc_llm.runtime.sampler import Sampler, SamplingSettings
from mlc_llm.tokenizer import Tokenizer

_CLOSING, _OPENING = frozenset(b'"]}@.'), frozenset(b"[{")
"""What ends the parts of JSON and of some texts in it, and what begins them."""


class RandomModel:
    """Writes anything, and never ends by itself.

    Args:
        tokenizer: its tokenizer.
        padding: how many rows its logits have beyond the tokenizer's tokens.
    """

    MOST_TOKENS = 900

    def __init__(self, tokenizer: Tokenizer, padding: int = 5) -> None:
        self.tokenizer = tokenizer
        assert tokenizer.eos_id is not None
        self.stop_ids = frozenset({tokenizer.eos_id, *tokenizer.end_ids})
        self.vocab_size = tokenizer.vocab_size + padding
        pieces = [tokenizer.token_bytes(token) or b"" for token in range(self.vocab_size)]
        self._closes = np.array(
            [bool(_CLOSING & set(piece)) and not _OPENING & set(piece) for piece in pieces]
        )
        self._closes[list(self.stop_ids)] = True
        self._short = np.array([len(piece) == 1 for piece in pieces])
        random = np.random.default_rng(0)
        self._noise = random.normal(scale=3, size=self.vocab_size).astype(np.float32)

    def logits(self, random: np.random.Generator, step: int) -> npt.NDArray[np.float32]:
        """Logits that end what is open the more, the longer an answer is."""
        logits = np.roll(self._noise, random.integers(self.vocab_size))
        return (
            logits + np.float32(0.2 * step) * self._closes + np.float32(0.02 * step) * self._short
        )

    def answer(
        self,
        constraint: Constraint,
        seed: int,
        *,
        forced: bool = False,
        stop_ids: Collection[int] | None = None,
    ) -> list[int]:
        """The tokens of an answer, without the stop token.

        Args:
            constraint: at its beginning.
            seed: of the logits and of the sampling.
            forced: whether tokens that are forced are taken without sampling.
            stop_ids: the tokens that end the answer, if not those of the tokenizer.
        """
        stop_ids = self.stop_ids if stop_ids is None else stop_ids
        random, sampler = np.random.default_rng(seed), Sampler(SamplingSettings(), seed)
        tokens: list[int] = []
        while not constraint.must_end:
            news = constraint.forced() if forced else []
            if not news:
                token = sampler.sample(self.logits(random, len(tokens)), constraint.allowed())
                if token in stop_ids:
                    assert constraint.may_end
                    break
                news = [token]
            for token in news:
                constraint.accept(token)
            tokens += news
            if len(tokens) > self.MOST_TOKENS:
                raise GenerationError(f"No end: {self.tokenizer.decode(tokens)!r}")
        return tokens
