"""llama.cpp's part of :mod:`benchmarks.answers`, in an environment of its own.

Reads the tokens of a text and of prompts from a file of arrays, and writes the logits after each
token of the text and greedy answers to the prompts into another.
"""

from __future__ import annotations

import argparse
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("given", type=Path)
    parser.add_argument("made", type=Path)
    parser.add_argument("--most", type=int, required=True)
    arguments = parser.parse_args()
    with np.load(arguments.given) as arrays:
        text, ends = arrays["text"].tolist(), arrays["ends"].tolist()
        lists = sum(name.startswith("list") for name in arrays)
        prompts = [arrays[f"list{index}"].tolist() for index in range(lists)]
    size = max(1024, len(text))
    model = llama_cpp.Llama(
        arguments.model, n_ctx=size, n_batch=512, logits_all=True, verbose=False
    )
    answers: dict[str, Any] = {
        f"list{index}": np.array(answer(model, prompt, ends, arguments.most), np.int64)
        for index, prompt in enumerate(prompts)
    }
    np.savez(arguments.made, logits=logits_after_each(model, text), **answers)


if __name__ == "__main__":
    main()
