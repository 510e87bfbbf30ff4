"""Passes of a loaded model that are measured: random tokens in, greedy tokens out.

Token ids are random numbers below the vocabulary's size, so that a tokenizer and its stop tokens
have no say: exactly as many tokens pass as were asked for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.sampler import Sampler, SamplingSettings

_SEED = 7


@dataclass(frozen=True)
class PrefillTime:
    """How long a prefill took.

    Args:
        seconds: until the logits of the last token were there.
        first_token: seconds until the first token of an answer was chosen.
    """

    seconds: float
    first_token: float


class Passes:
    """Prefills and decode steps after one and the same context; to be used in the engine's thread.

    Each leaves the KV cache with the context alone, which is prefilled once, at the beginning.

    Args:
        model: the model; what its KV cache holds is dropped.
        settings: how many tokens.
        stop: looked at between passes; raises ``CancelledError`` there.

    Raises:
        PromptTooLongError: that many tokens do not fit into the model's window.
    """

    def __init__(self, model: LoadedModel, settings: BenchSettings, stop: Stop) -> None:
        settings.require_window(model.window.size)
        self._model, self._stop = model, stop
        self._sampler = Sampler(SamplingSettings(temperature=0))
        most = settings.context + max(settings.prompt_length, settings.generate_length)
        ids = np.random.default_rng(_SEED).integers(0, model.vocab_size, most)
        self._context = [int(token) for token in ids[: settings.context]]
        self._after = [int(token) for token in ids[settings.context :]]
        self._prompt = self._after[: settings.prompt_length]
        model.reset()
        if self._context:
            for _ in model.prefill_steps(self._context):
                stop.check()

    def prefill(self) -> PrefillTime:
        """Take the prompt in, and choose the first token of an answer."""
        self._stop.check()
        begin = time.perf_counter()
        logits = self._model.prefill(self._prompt)
        end = time.perf_counter()
        self._sampler.sample(logits)
        first_token = time.perf_counter() - begin
        self.forget()
        return PrefillTime(end - begin, first_token)

    def decode(self, steps: int) -> float:
        """Generate ``steps`` tokens, and forget them; returns the seconds that it took."""
        seconds = self.continue_by(steps)
        self.forget()
        return seconds

    def continue_by(self, steps: int) -> float:
        """Generate ``steps`` tokens after what is in the cache; returns the seconds."""
        token = self._after[0]
        begin = time.perf_counter()
        for _ in range(steps):
            self._stop.check()
            token = self._sampler.sample(self._model.decode(token))
        return time.perf_counter() - begin

    def forget(self) -> None:
        """Drop what came after the context."""
        self._model.pop(self._model.length - len(self._context))
