"""Perplexity and divergence on a trained model, beside what transformers and NumPy find."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlc_llm.chat.evaluation import Evaluation, ReadAs, Reader, evaluate, windows
from mlc_llm.chat.loading import LoadedChat, open_chat
from mlc_llm.config import ChatConfig
from mlc_llm.testing import raises
from mlc_llm.tokenizer import load_tokenizer

TEXT = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the sun. "
    "One day, she saw a big red ball in the park. She wanted to play with it, but it was too high."
)
WINDOW = 40


def logprobs(checkpoint: Path, cut: list[list[int]], torch: Any, transformers: Any) -> np.ndarray:
    """transformers' log-probabilities after each token of each window but its last."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(1)
        model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    with torch.no_grad():
        rows = [model(torch.tensor([ids])).logits[0, :-1].double() for ids in cut]
    found: np.ndarray = torch.log_softmax(torch.cat(rows), -1).numpy()
    return found


@pytest.fixture(scope="module")
def opened(stories260k: Path, make_model: Any, make_library: Any) -> Callable[[str], Any]:
    def open_one(quantization: str) -> Any:
        folder = make_model(stories260k, quantization)
        config = ChatConfig(context_window_size=WINDOW, num_threads=1)
        return open_chat(str(folder), "cpu", config, str(make_library(folder)))

    return open_one


@pytest.fixture(scope="module")
def cut(stories260k: Path) -> list[list[int]]:
    return windows(load_tokenizer(stories260k), TEXT, WINDOW)


def measured(
    chat: LoadedChat, cut: list[list[int]], read_as: ReadAs, reference: LoadedChat | None = None
) -> Evaluation:
    beside = None if reference is None else Reader(reference, read_as)
    steps = list(evaluate(Reader(chat, read_as), cut, beside))
    assert [count for count, _ in steps] == [len(window) for window in cut]
    return steps[-1][1]


def rows(chat: LoadedChat, cut: list[list[int]]) -> np.ndarray:
    """All logits, in float64."""
    reader = Reader(chat, "prompt")
    parts = [part for window in cut for part in reader.read(window[:-1])]
    return np.concatenate(parts).astype(np.float64)


@pytest.mark.parametrize("read_as", ["prompt", "answer"])
def test_perplexity_is_that_of_transformers(
    opened: Any,
    cut: list[list[int]],
    stories260k: Path,
    torch: Any,
    transformers: Any,
    read_as: Any,
) -> None:
    expected = logprobs(stories260k, cut, torch, transformers)
    following = [token for window in cut for token in window[1:]]
    perplexity = np.exp(-expected[np.arange(len(following)), following].mean())
    with opened("q0f32") as chat:
        found = measured(chat, cut, read_as)
    assert found.tokens == len(following)
    assert found.perplexity == pytest.approx(perplexity, rel=1e-5)
    assert found.comparison is None


def test_the_comparison_is_the_mean_over_all_places(opened: Any, cut: list[list[int]]) -> None:
    with opened("q0f32") as exact, opened("q4f32_1") as coarse:
        found = measured(coarse, cut, "prompt", exact)
        wanted, given = rows(exact, cut), rows(coarse, cut)
    p, q = (np.exp(row) / np.exp(row).sum(1, keepdims=True) for row in (wanted, given))
    divergence = (p * np.log(p / q)).sum(1)
    near = found.comparison
    assert near is not None
    assert near.kl_divergence == pytest.approx(divergence.mean())
    assert near.largest_kl_divergence == pytest.approx(divergence.max())
    assert near.largest_error == pytest.approx(np.abs(wanted - given).max())
    assert near.same_token == (p.argmax(1) == q.argmax(1)).mean()
    assert near.kl_divergence > 0.001


def test_a_model_beside_itself(opened: Any, cut: list[list[int]]) -> None:
    with opened("q4f32_1") as chat, opened("q4f32_1") as same:
        near = measured(chat, cut, "prompt", same).comparison
    assert near is not None
    assert (near.kl_divergence, near.largest_error, near.same_token) == (0, 0, 1)


def test_every_window_begins_with_what_begins_a_text(stories260k: Path) -> None:
    tokenizer = load_tokenizer(stories260k)
    ids = tokenizer.encode(TEXT)
    cut = windows(tokenizer, TEXT, WINDOW)
    assert [window[0] for window in cut] == [tokenizer.bos_id] * len(cut)
    assert [token for window in cut for token in window[1:]] == ids
    assert {len(window) for window in cut[:-1]} == {WINDOW}
    assert windows(tokenizer, TEXT, WINDOW, 50) == [cut[0], cut[1][: 50 - WINDOW + 2]]


def test_a_text_without_tokens(stories260k: Path) -> None:
    with raises("text-short"):
        windows(load_tokenizer(stories260k), "", WINDOW)
