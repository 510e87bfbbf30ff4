"""How fast a model is when it writes several answers at the same time.

The scheduler of :mod:`mlc_llm.runtime.scheduler` does the work, as it does for answers to people.
Each stream has a random prompt of its own, and all come at the same moment. Measured are

    the time to the first token   from that moment, with nothing in the KV cache
    the speed                     of steps in which every stream gets a token; they begin when the
                                  cache holds all the prompts
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Self

import numpy as np

from mlc_llm.chat.loading import LoadedChat, resize
from mlc_llm.chat.plan import ModelPlan
from mlc_llm.cli.bench.measurement import WARM_UP_STEPS, Spread
from mlc_llm.cli.bench.settings import BenchSettings, stream_counts
from mlc_llm.errors import DeviceError
from mlc_llm.runtime import memory
from mlc_llm.runtime.answer import Delta, Ending
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.generation import Generation
from mlc_llm.runtime.memory import readable
from mlc_llm.runtime.request import Request
from mlc_llm.runtime.sampler import SamplingSettings
from mlc_llm.runtime.scheduler import Scheduler
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.tokenizer import PromptTokens

_SEED = 11


@dataclass(frozen=True)
class StreamsResult:
    """What was measured with one number of streams.

    Args:
        streams: answers that are written at the same time.
        tokens: of each answer, in each repeat.
        decode: seconds in which every stream got ``tokens`` tokens, in each repeat.
        first_tokens: seconds until each stream had its first token, in each repeat.
        kv_cache: bytes of the KV cache that has room for them.
    """

    streams: int
    tokens: int
    decode: Spread
    first_tokens: tuple[tuple[float, ...], ...]
    kv_cache: int

    @property
    def speed(self) -> Spread:
        """Tokens of all streams per second."""
        return self.stream_speed.map(lambda speed: self.streams * speed)

    @property
    def stream_speed(self) -> Spread:
        """Tokens of one stream per second."""
        return self.decode.map(lambda seconds: self.tokens / seconds)

    @property
    def first_token(self) -> Spread:
        """Seconds to the first token of the stream in the middle."""
        return Spread(tuple(median(times) for times in self.first_tokens))

    @property
    def last_first_token(self) -> Spread:
        """Seconds until every stream had its first token."""
        return Spread(tuple(max(times) for times in self.first_tokens))


@dataclass(frozen=True)
class StreamsMeasurement:
    """What was measured with each number of streams; the first one is 1.

    Args:
        settings: what was asked for.
        results: by number of streams, ascending.
    """

    settings: BenchSettings
    results: tuple[StreamsResult, ...]

    def ratio(self, result: StreamsResult) -> float:
        """The speed of all streams over that of one that is alone."""
        return result.speed.median / self.results[0].speed.median


def measure_streams(
    chat: LoadedChat, streams: Iterable[int], settings: BenchSettings | None = None
) -> StreamsMeasurement:
    """Measure a loaded model with several numbers of streams.

    For each, the model gets a KV cache with room for all; at the end, one of the size that it
    was loaded with, which is empty.

    Args:
        chat: the loaded model; nothing else may use it meanwhile.
        streams: the numbers; one stream is always measured, to compare with.
        settings: the sizes; a prompt has ``context`` and ``prompt_length`` tokens together. By
            default those of the command.

    Raises:
        ConfigError: a number of streams is none.
        PromptTooLongError: prompt and answer do not fit into the model's window.
        DeviceError: there is not enough memory for that number of streams.
        GenerationError: the model failed.
    """
    settings, counts = settings or BenchSettings(), stream_counts(streams)
    planned, device = chat.plan.model, chat.model.device
    settings.require_stream_window(planned.window.size)
    left = chat.engine.call(lambda stop: memory.available_on(chat.plan.device.adapter, device))
    loaded = replace(planned, memory=replace(planned.memory, weights=0))
    require_memory(loaded, counts[-1], settings, left)
    try:
        return StreamsMeasurement(
            settings, tuple(_measure(chat, count, settings) for count in counts)
        )
    finally:
        resize(chat, planned)


def require_memory(
    planned: ModelPlan, streams: int, settings: BenchSettings, available: int | None
) -> None:
    """Refuse more streams than fit.

    Args:
        planned: the model.
        streams: how many.
        settings: the sizes.
        available: bytes that there are; None when that is not known, and nothing is refused.

    Raises:
        DeviceError: they do not fit; the message says how many would.
    """
    need = plan_streams(planned, streams, settings).memory
    if available is None or need.total <= available:
        return
    fitting = max(0, available - need.weights - need.workspace) // (need.kv_cache // streams)
    remedy = (
        f"{fitting} stream{'s' if fitting > 1 else ''} would fit, or more with a smaller "
        "--context, --prompt-length or --generate-length."
        if fitting
        else "Not even one would fit: take fewer tokens, or a smaller model or quantisation."
    )
    weights = f"weights {readable(need.weights)}, " if need.weights else ""
    raise DeviceError(
        f"{streams} streams of {settings.stream_length} tokens need about {readable(need.total)} "
        f"of memory and {readable(available)} are available: {weights}KV cache "
        f"{readable(need.kv_cache)}, workspace {readable(need.workspace)}. {remedy}",
        code="memory-too-small",
    )


def plan_streams(planned: ModelPlan, streams: int, settings: BenchSettings) -> ModelPlan:
    """The plan of a model with a KV cache for that number of streams.

    Each has room for its prompt and its answer, and a page to copy the end of the prompt into when
    that is found.
    """
    page = planned.memory.kv_slack // planned.memory.kv_bytes_per_token
    tokens = streams * page * (-(-settings.stream_length // page) + 1)
    window = replace(planned.window, sequences=streams, tokens=tokens)
    kv_cache = tokens * planned.memory.kv_bytes_per_token
    return replace(planned, window=window, memory=replace(planned.memory, kv_cache=kv_cache))


def _measure(chat: LoadedChat, streams: int, settings: BenchSettings) -> StreamsResult:
    planned = plan_streams(chat.plan.model, streams, settings)
    resize(chat, planned)
    runs = chat.engine.call(lambda stop: _run(chat, streams, settings, stop))
    first_tokens, decode = zip(*runs, strict=True)
    return StreamsResult(
        streams, settings.generate_length, Spread(decode), first_tokens, planned.memory.kv_cache
    )


def _run(
    chat: LoadedChat, streams: int, settings: BenchSettings, stop: Stop
) -> list[tuple[tuple[float, ...], float]]:
    """Times to the first tokens, and seconds of decoding, of each repeat."""
    with Answers(chat, stop) as answers:
        runs = StreamRuns(chat, answers, streams, settings)
        runs.read()
        runs.write(min(WARM_UP_STEPS, settings.generate_length))
        measured = [
            (runs.read(), runs.write(settings.generate_length)) for _ in range(settings.repeat)
        ]
    chat.model.reset()
    return measured


class TokenTimes:
    """The sink of an answer of which only the time matters.

    Attributes:
        times: when each token came, in seconds of ``time.perf_counter``.
        error: what the answer failed with, if it did.
    """

    is_full = False

    def __init__(self) -> None:
        self.times: list[float] = []
        self.error: BaseException | None = None

    def put(self, delta: Delta) -> None:
        """Note when a token came."""
        if delta.token_ids:
            self.times.append(time.perf_counter())

    def flush(self) -> None:
        """Nothing is kept back."""

    def end(self, error: BaseException | None = None) -> None:
        """Note what the answer failed with."""
        self.error = error


class Answers:
    """Answers that are written together, a step at a time; to be used in the engine thread.

    They are broken off at the end of the ``with`` block.

    Args:
        chat: the model.
        stop: looked at before each step; raises ``CancelledError`` there.
    """

    def __init__(self, chat: LoadedChat, stop: Stop) -> None:
        self._tokenizer, self._stop = chat.plan.tokenizer, stop
        self._scheduler = Scheduler(chat.model)
        self._all: list[tuple[Generation, TokenTimes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.break_off()

    def add(self, prompt: Sequence[int], tokens: int) -> TokenTimes:
        """Have an answer of a number of tokens written; returns where their times will be."""
        times = TokenTimes()
        request = Request(PromptTokens(prompt), Ending(tokens), SamplingSettings(temperature=0))
        generation = Generation(request, self._tokenizer, times, Metrics())
        self._all.append((generation, times))
        self._scheduler.add(generation)
        return times

    def step(self) -> None:
        """Take a step of the scheduler.

        Raises:
            MLCError: an answer failed.
        """
        self._stop.check()
        self._scheduler.step()
        for _, times in self._all:
            if times.error is not None:
                raise times.error

    def break_off(self) -> None:
        """End all answers; what they hold can be found in the KV cache."""
        for generation, _ in self._all:
            generation.cancelled = True
        self._all = []
        self._scheduler.step()


class StreamRuns:
    """Streams with prompts of their own, measured again and again.

    Args:
        chat: the model, whose KV cache has room for them: see :func:`plan_streams`.
        answers: writes them.
        streams: how many.
        settings: the sizes.
    """

    def __init__(
        self, chat: LoadedChat, answers: Answers, streams: int, settings: BenchSettings
    ) -> None:
        self._model, self._answers, self._most = chat.model, answers, settings.generate_length
        shape = (streams, settings.stream_prompt)
        ids = np.random.default_rng(_SEED).integers(0, chat.model.vocab_size, shape)
        self._prompts: list[list[int]] = ids.tolist()

    def read(self) -> tuple[float, ...]:
        """Seconds until each stream has its first token, with nothing in the KV cache.

        They go on to write while others are still read, until each has one.
        """
        self._model.reset()
        begin = time.perf_counter()
        streams = [self._answers.add(prompt, self._most) for prompt in self._prompts]
        while not all(stream.times for stream in streams):
            self._answers.step()
        self._answers.break_off()
        return tuple(stream.times[0] - begin for stream in streams)

    def write(self, steps: int) -> float:
        """Seconds of steps in which each stream gets a token; :meth:`read` came before.

        The first step finds the prompts in the KV cache, and is not counted.
        """
        streams = [self._answers.add(prompt, steps + 1) for prompt in self._prompts]
        while not all(len(stream.times) > steps for stream in streams):
            self._answers.step()
        self._answers.break_off()
        return streams[-1].times[-1] - streams[-1].times[0]
