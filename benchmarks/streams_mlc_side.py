"""The side of mlc_llm where many answers are written: a child process of ``streams``.

Two requests, of which :mod:`benchmarks.streams` says what they measure: ``streams`` and
``arrival``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocol import answer_requests
from mlc_llm import ChatConfig, __version__
from mlc_llm.chat.loading import LoadedChat, open_chat, resize
from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.cli.bench.streams import Answers, StreamRuns, plan_streams
from mlc_llm.runtime.engine import Stop
from mlc_llm.version import tvm_version

LEAST_READ = 16
"""Fewest tokens of a prompt that the scheduler reads in a step."""


class ManyAnswers:
    """A model whose scheduler writes many answers.

    Args:
        chat: the loaded model.
    """

    def __init__(self, chat: LoadedChat) -> None:
        self._chat = chat
        self._key: tuple[int, int, int] | None = None
        self._runs: StreamRuns | None = None
        self._kept = ExitStack()

    def measure(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        measures: dict[str, Callable[..., dict[str, Any]]] = {
            "streams": self.streams,
            "arrival": self.arrival,
        }
        wanted = {name: value for name, value in request.items() if name != "measure"}
        return measures[request["measure"]](**wanted)

    def streams(self, streams: int, tokens: int, steps: int) -> dict[str, Any]:
        """Seconds in which each stream gets that number of tokens; see :class:`StreamRuns`.

        The prompts are read once, and then found in the KV cache.
        """
        if self._key != (streams, tokens, steps):
            self._prepare(streams, tokens, steps)
            self._key = (streams, tokens, steps)
        runs = self._runs
        assert runs is not None
        return {"seconds": self._chat.engine.call(lambda stop: runs.write(steps))}

    def _prepare(self, streams: int, tokens: int, steps: int) -> None:
        settings = BenchSettings(prompt_length=tokens, generate_length=steps)
        self._room_for(streams, settings)

        def read(_: Stop) -> StreamRuns:
            answers = self._kept.enter_context(Answers(self._chat, Stop()))
            runs = StreamRuns(self._chat, answers, streams, settings)
            runs.read()
            return runs

        self._runs = self._chat.engine.call(read)

    def arrival(self, streams: int, tokens: int, steps: int, arriving: int) -> dict[str, Any]:
        """Seconds around the arrival of a long prompt.

        Args:
            streams: answers that are written.
            tokens: of each one's prompt.
            steps: tokens that each gets before the long prompt arrives.
            arriving: tokens of the long prompt.

        Returns:
            ``before`` and ``during``: seconds between two tokens of a stream, of all streams;
            ``first_token`` and ``alone``: seconds to the first token of the long prompt's answer,
            among the others and with nothing else to do.
        """
        most = steps + 2 * arriving // LEAST_READ
        settings = BenchSettings(prompt_length=max(tokens, arriving), generate_length=most)
        self._room_for(streams + 1, settings)
        return self._chat.engine.call(
            lambda stop: _arrival(self._chat, stop, streams, tokens, steps, arriving, most)
        )

    def _room_for(self, streams: int, settings: BenchSettings) -> None:
        self._key = None
        settings.require_stream_window(self._chat.plan.model.window.size)
        resize(self._chat, plan_streams(self._chat.plan.model, streams, settings))


def _arrival(
    chat: LoadedChat, stop: Stop, streams: int, tokens: int, steps: int, arriving: int, most: int
) -> dict[str, Any]:
    rng = np.random.default_rng(13)
    long: list[int] = rng.integers(0, chat.model.vocab_size, arriving).tolist()
    prompts: list[list[int]] = rng.integers(0, chat.model.vocab_size, (streams, tokens)).tolist()
    with Answers(chat, stop) as answers:
        chat.model.reset()
        begin = time.perf_counter()
        answer = answers.add(long, 1)
        while not answer.times:
            answers.step()
        alone = answer.times[0] - begin
    with Answers(chat, stop) as answers:
        chat.model.reset()
        written = [answers.add(prompt, most) for prompt in prompts]
        while not all(one.times for one in written):
            answers.step()
        begun = time.perf_counter()
        for _ in range(steps):
            answers.step()
        begin = time.perf_counter()
        answer = answers.add(long, 1)
        while not answer.times:
            answers.step()
    gaps = [pair for one in written for pair in itertools.pairwise(one.times)]
    return {
        "before": [end - start for start, end in gaps if begun <= start and end <= begin],
        "during": [end - start for start, end in gaps if end > begin],
        "first_token": answer.times[0] - begin,
        "alone": alone,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--opt", default="")
    arguments = parser.parse_args()
    # As a chat on the command line does: only TVM's runtime is loaded.
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    config = ChatConfig(
        context_window_size=arguments.context,
        prefill_chunk_size=min(arguments.context, 2048),
        num_threads=arguments.threads,
    )
    if arguments.opt:
        config.opt = arguments.opt
    about = {
        "name": "mlc_llm",
        "version": f"{__version__}, apache-tvm {tvm_version()}",
        "opt": arguments.opt,
        "threads": arguments.threads,
    }
    with open_chat(str(arguments.model), "cpu", config) as chat:
        answer_requests(about, ManyAnswers(chat).measure)


if __name__ == "__main__":
    main()
