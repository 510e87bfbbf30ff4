"""llama.cpp's part of :mod:`benchmarks.answers`, in an environment of its own.

Reads the tokens of a text and of prompts from a file of arrays, and writes the logits after each
token of the text, greedy answers to the prompts, and tokens a second into another.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np


def logits_after_each(model: llama_cpp.Llama, ids: list[int]) -> np.ndarray:
    """The logits after each token of a text: float32 of shape (tokens, vocabulary)."""
    model.reset()
    model.eval(ids)
    return np.array(model.scores[: len(ids)], np.float32)


def answer(model: llama_cpp.Llama, prompt: list[int], ends: list[int], most: int) -> list[int]:
    """A greedy answer, without the token that ends it."""
    made: list[int] = []
    model.reset()
    model.eval(prompt)
    while len(made) < most:
        token = int(model.scores[model.n_tokens - 1].argmax())
        if token in ends:
            break
        made.append(token)
        model.eval([token])
    return made


def speeds(model: llama_cpp.Llama, length: int, steps: int, repeat: int) -> tuple[float, float]:
    """Tokens a second of a prompt, and of the tokens that follow; medians."""
    ids = np.random.default_rng(0).integers(100, model.n_vocab(), length).tolist()

    def prefill() -> None:
        model.reset()
        model.eval(ids)

    def decode() -> None:
        for token in ids[:steps]:
            model.eval([token])

    times = [(_seconds(prefill), _seconds(decode)) for _ in range(1 + repeat)][1:]
    first, second = (statistics.median(column) for column in zip(*times, strict=True))
    return length / first, steps / second


def _seconds(action: Callable[[], None]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("given", type=Path)
    parser.add_argument("made", type=Path)
    parser.add_argument("--most", type=int, required=True, help="tokens of an answer")
    parser.add_argument(
        "--prompt", type=int, required=True, help="tokens of a prompt that is timed"
    )
    parser.add_argument("--repeat", type=int, required=True)
    arguments = parser.parse_args()
    with np.load(arguments.given) as arrays:
        text, ends = arrays["text"].tolist(), arrays["ends"].tolist()
        lists = sum(name.startswith("list") for name in arrays)
        prompts = [arrays[f"list{index}"].tolist() for index in range(lists)]
    size = max(1024, len(text))
    settings: dict[str, Any] = {"n_ctx": size, "n_batch": 512, "n_threads": os.cpu_count()}
    model = llama_cpp.Llama(arguments.model, logits_all=True, verbose=False, **settings)
    answers: dict[str, Any] = {
        f"list{index}": np.array(answer(model, prompt, ends, arguments.most), np.int64)
        for index, prompt in enumerate(prompts)
    }
    logits = logits_after_each(model, text)
    del model
    timed = llama_cpp.Llama(arguments.model, verbose=False, **settings)
    prefill, decode = speeds(timed, arguments.prompt, arguments.most, arguments.repeat)
    found: dict[str, Any] = {
        "logits": logits,
        "prefill": np.array(prefill),
        "decode": np.array(decode),
    }
    np.savez(arguments.made, **found, **answers)


if __name__ == "__main__":
    main()
