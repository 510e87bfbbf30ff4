"""Throughput, time to the first token, and memory of a loaded model."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.bench.passes import Passes, PrefillTime
from mlc_llm.cli.bench.process_memory import peak_bytes, resident_bytes
from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.memory import estimate

WARM_UP_STEPS = 8
"""Decode steps of the warm-up, at most."""


@dataclass(frozen=True)
class Spread:
    """Values of one quantity, in the order in which they were measured."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one; of an even number, the mean of the two in the middle."""
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest."""
        return max(self.values)

    def map(self, function: Callable[[float], float]) -> Spread:
        """The spread of another quantity."""
        return Spread(tuple(function(value) for value in self.values))


@dataclass(frozen=True)
class Memory:
    """Bytes; None where the system does not tell.

    Args:
        loaded: of the process, when the model was loaded and nothing had passed it yet.
        peak: of the process, at most, from its start to the end of the measurement.
        weights: the model's parameters.
        kv_cache: keys and values of the whole context window.
    """

    loaded: int | None
    peak: int | None
    weights: int
    kv_cache: int

    @classmethod
    def of(cls, chat: LoadedChat, loaded: int | None) -> Self:
        """The memory now."""
        model = chat.model
        need = estimate(model.metadata.kv_cache, model.window, chat.plan.folder.total_bytes)
        return cls(loaded, peak_bytes(), need.weights, need.kv_cache)


@dataclass(frozen=True)
class Measurement:
    """What a benchmark measured.

    Args:
        settings: what was asked for.
        prefill: seconds of each prefill.
        first_token: seconds from a prefill's begin until the first token was chosen.
        decode: seconds of each run of ``settings.generate_length`` decode steps, with the choice
            of the tokens.
        memory: of the process and the model.
    """

    settings: BenchSettings
    prefill: Spread
    first_token: Spread
    decode: Spread
    memory: Memory

    @property
    def prefill_speed(self) -> Spread:
        """Tokens of a prefill per second."""
        return self.prefill.map(lambda seconds: self.settings.prompt_length / seconds)

    @property
    def decode_speed(self) -> Spread:
        """Generated tokens per second."""
        return self.decode.map(lambda seconds: self.settings.generate_length / seconds)


def measure(chat: LoadedChat, settings: BenchSettings | None = None) -> Measurement:
    """Measure a model that was just loaded; see :func:`~mlc_llm.chat.loading.open_chat`.

    After one warm-up, a prefill and a run of decode steps take turns. The model's KV cache is
    empty afterwards.

    Args:
        chat: the loaded model.
        settings: how many tokens and how often; by default those of the command.

    Raises:
        PromptTooLongError: the tokens do not fit into the model's window.
        GenerationError: the model failed.
    """
    settings = settings or BenchSettings()
    loaded = resident_bytes()
    prefill, decode = chat.engine.call(lambda stop: _run(chat, settings, stop))
    return Measurement(
        settings,
        Spread(tuple(one.seconds for one in prefill)),
        Spread(tuple(one.first_token for one in prefill)),
        Spread(tuple(decode)),
        Memory.of(chat, loaded),
    )


def _run(
    chat: LoadedChat, settings: BenchSettings, stop: Stop
) -> tuple[list[PrefillTime], list[float]]:
    """The prefills, and the seconds of the runs of decode steps."""
    passes = Passes(chat.model, settings, stop)
    passes.prefill()
    passes.decode(min(WARM_UP_STEPS, settings.generate_length))
    prefill, decode = [], []
    for _ in range(settings.repeat):
        prefill.append(passes.prefill())
        decode.append(passes.decode(settings.generate_length))
    chat.model.reset()
    return prefill, decode
