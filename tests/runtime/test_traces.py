"""Real models serve random traces: each answer is, to the token, what it is alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm

from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.tokenizer import PromptTokens
from mlc_llm.weights.folder import ModelFolder

from .served import Served, wanted

pytestmark = pytest.mark.matrix(scheme=["q0f32", "q4f16_1"])

SIZES = {"vocab_size": 300}  # of the shape that other tests have, so that libraries are shared
SCHEMES = [
    "q0f16",
    "q0f32",
    "q3f16_1",
    "q4f16_0",
    "q4f16_1",
    "q4f32_1",
    "q4f16_m",
    "q8f16_16",
    "q8f16_32",
]
KINDS = [(scheme, "", "llama") for scheme in SCHEMES] + [
    ("q4f16_1", "activations=a8", "llama"),
    ("q4f16_1", "activations=a16", "llama"),
    ("q4f16_1", "", "mistral"),
]

Load = Callable[..., LoadedModel]


@pytest.fixture
def open_model(make_checkpoint: Any, make_model: Any, make_library: Any) -> Load:
    """Convert, compile and open a small random model."""

    def load(scheme: str, opt: str, family: str) -> LoadedModel:
        window = {"sliding_window": 21} if family == "mistral" else {}
        more = {"context_window_size": 512} if window else {}
        folder: Path = make_model(make_checkpoint(family, **SIZES, **window), scheme, **more)
        library = make_library(folder, opt)
        return LoadedModel.load(
            library, ModelFolder.open(folder), tvm.cpu(), ContextWindow(400, 64)
        )

    return load


@pytest.mark.parametrize(("scheme", "opt", "family"), KINDS)
def test_each_answer_is_what_it_is_alone(
    open_model: Load, scheme: str, opt: str, family: str
) -> None:
    model, rng = open_model(scheme, opt, family), random.Random(5)
    for sequences, pages, chunk in ((4, 25, 64), (6, 25, 17), (3, 30, 40)):
        model.resize(ContextWindow(400, chunk, sequences, 16 * pages))
        served = Served(model)
        for number in range(10):
            served.ask(a_request(rng, number))
            for _ in range(rng.randrange(5)):
                served.step()
            if number % 4 == 3:
                rng.choice(served.asked).generation.cancelled = True
        served.finish()
        for asked in served.asked:
            alone = Served(model).alone(replace(asked.request, proposes=False))
            found = asked.result
            if asked.generation.finished:
                assert (found.token_ids, found.text) == (alone.token_ids, alone.text)
            else:
                assert alone.token_ids[: len(found.token_ids)] == found.token_ids
        assert model.cache.pool.available == pages


def a_request(rng: random.Random, number: int) -> Any:
    """A prompt with one of three beginnings, greedy or sampled, some with guesses."""
    begin = np.random.default_rng(rng.randrange(3)).integers(3, 300, 50).tolist()
    more = [rng.randrange(3, 300) for _ in range(rng.randrange(1, 80))]
    seed = None if number % 3 == 0 else number
    return wanted([*begin, *more], rng.randrange(1, 40), seed, proposes=number % 2 == 1)


def test_a_conversation_with_a_sliding_window_is_not_read_again(open_model: Load) -> None:
    """The cache keeps what is before the window, so that a later turn finds it."""
    model, rng = open_model("q4f16_1", "", "mistral"), random.Random(1)
    model.resize(ContextWindow(400, 64, 2, 800))
    served, ids, generated, held = Served(model), [5, 6, 7], (), 0
    for turn in range(12):
        request = replace(wanted([], 8, seed=turn), prompt=PromptTokens([*ids], generated))
        asked = served.ask(request)
        served.ask(a_request(rng, turn))
        served.finish()
        result = asked.result
        assert result.prefilled_tokens <= len(ids) - held + 1
        alone = Served(model).alone(request) if turn in (5, 11) else result
        assert alone.token_ids == result.token_ids
        held = len(ids) + len(result.token_ids) - 1 if turn != 5 else 0  # it was emptied
        generated = (*generated, range(len(ids), len(ids) + len(result.token_ids)))
        ids += [*result.token_ids, *(rng.randrange(3, 300) for _ in range(9))]
