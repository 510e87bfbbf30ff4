"""Several sequences in one pass on Vulkan, in every scheme, against each of them alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlc_llm_vulkan import DEVICE

from mlc_llm.plugin import Availability
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.runtime.sequence import CachedSequence, Run
from mlc_llm.weights.folder import ModelFolder

pytestmark = pytest.mark.matrix(scheme=["q0f32", "q4f16_1"])

TOLERANCE = {"q0f32": 1e-4, "q4f32_1": 1e-4, "q0f16": 2e-2, "q4f16_1": 2e-2}
"""In standard deviations of the logits: a row alone is summed in another order than in a batch."""

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 100,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
}


def tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, SIZES["vocab_size"], count).tolist()


PROMPTS = [tokens(n, n) for n in (1, 15, 16, 33, 70)]
ANSWERS = [tokens(5, 100 + n) for n in range(len(PROMPTS))]


class Model:
    """The functions of a model on Vulkan, and a cache for some sequences."""

    def __init__(self, folder: Path, library: Path) -> None:
        opened, device = ModelFolder.open(folder), DEVICE.open(0)
        compiled = CompiledLibrary(library, device)
        parameters = load_parameters(compiled, opened, device, Stop())
        self.functions = ModelFunctions(compiled, parameters, device, SIZES["vocab_size"])
        self.cache = KVCache(compiled.metadata.kv_cache, 128, 512, device, sequences=6)
        self.functions.use(self.cache)

    def alone(self, prompt: Sequence[int], answer: Sequence[int]) -> list[np.ndarray]:
        sequence = self.cache.add()
        if prompt[:-1]:
            self.functions.prefill([Run(sequence, prompt[:-1])])
        logits = [self.decode([(sequence, token)])[0] for token in (prompt[-1], *answer)]
        self.cache.remove(sequence)
        return logits

    def decode(self, rows: Sequence[tuple[CachedSequence, int]]) -> list[np.ndarray]:
        return list(self.functions.decode([Run(one, (token,)) for one, token in rows]).copy())


@pytest.fixture(scope="module", params=TOLERANCE)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(
    vulkan: Availability, scheme: str, make_checkpoint: Any, make_model: Any, make_library: Any
) -> Model:
    folder = make_model(make_checkpoint("llama", **SIZES), scheme)
    return Model(folder, make_library(folder, device=DEVICE.name))


def assert_close(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], scheme: str) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert float(np.abs(one - other).max() / other.std()) < TOLERANCE[scheme]


def test_prompts_and_answers_together(model: Model, scheme: str) -> None:
    wanted = [model.alone(p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    held = [model.cache.add() for _ in PROMPTS]
    parts = [Run(one, p[:-1]) for one, p in zip(held, PROMPTS, strict=True) if p[:-1]]
    model.functions.prefill(parts)
    for step in range(len(ANSWERS[0]) + 1):
        given = [[p[-1], *a][step] for p, a in zip(PROMPTS, ANSWERS, strict=True)]
        found = model.decode(list(zip(held, given, strict=True))[::-1])[::-1]
        assert_close(found, [one[step] for one in wanted], scheme)
    for one in held:
        model.cache.remove(one)


def test_shared_pages_and_several_rows(model: Model, scheme: str) -> None:
    """Two children of one prompt; a parent that is gone; an answer that is checked in one pass."""
    prompt, (first, second) = PROMPTS[4], ANSWERS[:2]
    wanted = [model.alone(prompt, answer) for answer in (first, second)]
    parent = model.cache.add()
    model.functions.prefill([Run(parent, prompt[:-1])])
    model.cache.remember(parent)
    children = [model.cache.add() for _ in range(2)]
    for child in children:
        model.cache.attach(child, parent.tokens, parent.phases)
    assert {len(child) for child in children} == {64}
    model.cache.remove(parent)
    model.functions.prefill([Run(child, prompt[64:-1]) for child in children])
    runs = [Run(c, [prompt[-1], *a]) for c, a in zip(children, (first, second), strict=True)]
    assert_close(list(model.functions.decode(runs)), [*wanted[0], *wanted[1]], scheme)
    for child in children:
        model.cache.remove(child)
