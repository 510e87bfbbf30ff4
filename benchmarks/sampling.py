"""How long choosing a token takes, without a model.

::

    python -m benchmarks.sampling --vocabulary 128256

``peaked`` logits are like a trained model's: most of the probability is in a few tokens. ``flat``
ones are random numbers of a normal distribution, the worst that a nucleus can be asked for.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.runtime.logprobs import LogprobRecorder
from mlc_llm.runtime.sampler import Sampler, SamplingSettings

CASES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature 0.7": {"temperature": 0.7},
    "top_p 0.95": {"top_p": 0.95},
    "temperature 0.7, top_p 0.95": {"temperature": 0.7, "top_p": 0.95},
    "top_p 0.5": {"top_p": 0.5},
    "top_k 40": {"top_k": 40},
    "top_k 40, top_p 0.95": {"top_k": 40, "top_p": 0.95},
    "min_p 0.05": {"min_p": 0.05},
    "three penalties, top_p 0.95": {
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.1,
        "top_p": 0.95,
    },
}
PROMPT_TOKENS = 1000


def distributions(size: int) -> dict[str, npt.NDArray[np.float32]]:
    """Logits of a peaked and of a flat distribution."""
    random = np.random.default_rng(0)
    peaked = random.normal(scale=2.0, size=size).astype(np.float32)
    peaked[random.integers(0, size, 50)] += 15
    return {"peaked": peaked, "flat": random.normal(size=size).astype(np.float32)}


def measure(settings: SamplingSettings, logits: npt.NDArray[np.float32], rounds: int) -> float:
    """The mean microseconds of a token; the mean, because some tokens are drawn twice.

    Of each ten tokens' means the median is taken, which another process's work does not move.
    """
    sampler = Sampler(settings, 0, range(PROMPT_TOKENS))
    means = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(10):
            sampler.sample(logits)
        means.append((time.perf_counter() - begin) / 10)
    return statistics.median(means) * 1e6


def measure_logprobs(logits: npt.NDArray[np.float32], rounds: int) -> float:
    """The mean microseconds that recording 20 alternatives adds to a token."""
    recorder = LogprobRecorder(20, str)
    seconds = []
    for token in range(rounds):
        begin = time.perf_counter()
        recorder.record(logits, token)
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * 1e6


def main() -> None:
    """Print a table of microseconds a token."""
    parser = argparse.ArgumentParser(description="Time the choice of a token.")
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--rounds", type=int, default=100, help="of ten tokens each")
    arguments = parser.parse_args()
    logits = distributions(arguments.vocabulary)
    print("| us a token |", " | ".join(logits), "|")
    print("| --- |", " | ".join("---" for _ in logits), "|")
    for name, options in CASES.items():
        settings = SamplingSettings(**options)
        figures = [measure(settings, values, arguments.rounds) for values in logits.values()]
        print(f"| {name} |", " | ".join(f"{figure:.0f}" for figure in figures), "|")
    figures = [measure_logprobs(values, arguments.rounds) for values in logits.values()]
    print("| logprobs 20, besides |", " | ".join(f"{figure:.0f}" for figure in figures), "|")


if __name__ == "__main__":
    main()
