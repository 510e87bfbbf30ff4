"""Several sequences in one pass: each gives the bits that it gives alone.

A row depends on its sequence's tokens up to its position, and on the phase in which each of them
was computed: not on the other rows and their order, on how a prompt is cut, or on whether pages are
shared. Tests of one sequence against transformers and NumPy are in `test_numerics.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc_llm.errors import GenerationError
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.kv_cache import KVCache
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.page_pool import OutOfPages
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.runtime.sequence import CachedSequence, Run
from mlc_llm.testing import raises
from mlc_llm.weights.folder import ModelFolder

pytestmark = pytest.mark.matrix(scheme=["q0f32", "q4f16_1"])

SCHEMES = ["q0f32", "q0f16", "q4f32_1", "q4f16_1"]
SIZES = {"vocab_size": 300}  # of the shape that other tests have, so that libraries are shared
SEQUENCES, LENGTH = 8, 400


class Model:
    """The functions of a compiled model and a cache for some sequences."""

    def __init__(self, folder: Path, library: Path) -> None:
        opened, compiled = ModelFolder.open(folder), CompiledLibrary(library, tvm.cpu())
        parameters = load_parameters(compiled, opened, tvm.cpu(), Stop())
        self.vocab_size = opened.config.vocab_size
        self.functions = ModelFunctions(compiled, parameters, tvm.cpu(), self.vocab_size)
        self.geometry = compiled.metadata.kv_cache
        self.cache = KVCache(self.geometry, LENGTH, 2 * LENGTH, tvm.cpu(), SEQUENCES)
        self.functions.use(self.cache)

    def alone(self, prompt: Sequence[int], answer: Sequence[int]) -> list[np.ndarray]:
        """The logits after a prompt and after each token of an answer, by one sequence alone."""
        sequence = self.cache.add()
        if prompt[:-1]:
            self.functions.prefill([Run(sequence, prompt[:-1])])
        logits = [self.decode([(sequence, prompt[-1])])[0]]
        logits += [self.decode([(sequence, token)])[0] for token in answer]
        self.cache.remove(sequence)
        return logits

    def decode(self, rows: Sequence[tuple[CachedSequence, int]]) -> list[np.ndarray]:
        """The logits after a token of each of some sequences, kept beyond the next pass."""
        runs = [Run(sequence, (token,)) for sequence, token in rows]
        return [row.copy() for row in self.functions.decode(runs)]


Load = Callable[..., Model]


@pytest.fixture(scope="module")
def load(make_checkpoint: Any, make_model: Any, make_library: Any) -> Load:
    """Convert, compile and open a small random model, once for each scheme and option."""
    loaded: dict[tuple[str, str, str, bool], Model] = {}

    def load(
        quantization: str, opt: str = "", family: str = "llama", deterministic: bool = False
    ) -> Model:
        key = (quantization, opt, family, deterministic)
        if key not in loaded:
            window = {"sliding_window": 21} if family == "mistral" else {}
            checkpoint = make_checkpoint(family, **SIZES, **window)
            more = {"context_window_size": 512} if window else {}
            folder = make_model(checkpoint, quantization, **more)
            loaded[key] = Model(folder, make_library(folder, opt, deterministic))
        return loaded[key]

    return load


def tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, SIZES["vocab_size"], count).tolist()


PROMPTS = [tokens(n, n) for n in (1, 2, 15, 16, 17, 40, 100)]
ANSWERS = [tokens(12, 100 + n) for n in range(len(PROMPTS))]
KINDS = [(s, "", "llama") for s in SCHEMES] + [
    ("q4f16_1", "activations=a8", "llama"),
    ("q4f16_1", "activations=a16", "llama"),
    ("q4f16_1", "", "mistral"),
    ("q0f32", "", "mistral"),
]


def assert_equal(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], what: str) -> None:
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        difference = float(np.abs(one - other).max())
        assert np.array_equal(one, other), f"{what}, row {number}: {difference}"


@pytest.mark.parametrize(("scheme", "opt", "family"), KINDS)
def test_prefilled_and_decoded_together(load: Load, scheme: str, opt: str, family: str) -> None:
    """Prompts of all lengths in one prefill; then all answers a token at a time, in any order."""
    model = load(scheme, opt, family)
    wanted = [model.alone(p, a) for p, a in zip(PROMPTS, ANSWERS, strict=True)]
    held = [model.cache.add() for _ in PROMPTS]
    parts = [Run(one, p[:-1]) for one, p in zip(held, PROMPTS, strict=True) if p[:-1]]
    model.functions.prefill(parts)
    found: list[list[np.ndarray]] = [[] for _ in PROMPTS]
    rng = np.random.default_rng(0)
    for step in range(len(ANSWERS[0]) + 1):
        order = rng.permutation(len(held))[: len(held) - step % 3]
        rows = []
        for i in order:
            ids = [PROMPTS[i][-1], *ANSWERS[i]]
            rows.append((held[i], ids[len(found[i])]))
        for i, logits in zip(order, model.decode(rows), strict=True):
            found[i].append(logits)
    for i, one in enumerate(held):
        assert_equal(found[i], wanted[i][: len(found[i])], f"sequence {i}")
        model.cache.remove(one)


@pytest.mark.parametrize(("scheme", "opt", "family"), KINDS)
def test_however_a_prompt_is_cut(load: Load, scheme: str, opt: str, family: str) -> None:
    model, prompt = load(scheme, opt, family), tokens(120, 9)
    (wanted,) = model.alone(prompt, [])
    for cuts in ([16], [37], [64], [118], [1, 2, 3], [40, 80]):
        one = model.cache.add()
        for begin, end in zip([0, *cuts], [*cuts, len(prompt) - 1], strict=True):
            model.functions.prefill([Run(one, prompt[begin:end])])
        assert_equal(model.decode([(one, prompt[-1])]), [wanted], f"cut at {cuts}")
        model.cache.remove(one)


@pytest.mark.parametrize(("scheme", "opt", "family"), KINDS)
def test_with_shared_pages(load: Load, scheme: str, opt: str, family: str) -> None:
    """Children of one prompt, and their parent, go on in their own ways."""
    model, prompt = load(scheme, opt, family), tokens(70, 5)
    answers = [tokens(20, seed) for seed in range(4)]
    wanted = [model.alone(prompt, answer) for answer in answers]
    parent = model.cache.add()
    model.functions.prefill([Run(parent, prompt[:-1])])
    model.cache.remember(parent)
    children = [model.cache.add() for _ in answers[1:]]
    for child in children:
        model.cache.attach(child, prompt[:-1], bytes(len(parent)))
    assert {len(child) for child in children} == {64}
    free = model.cache.pool.available
    model.functions.prefill([Run(child, prompt[64:-1]) for child in children])
    assert free - model.cache.pool.available == len(children)
    held = [parent, *children]
    for step in range(len(answers[0]) + 1):
        rows = [(one, [prompt[-1], *a][step]) for one, a in zip(held, answers, strict=True)]
        assert_equal(model.decode(rows), [w[step] for w in wanted], f"step {step}")
    model.cache.remove(parent)
    rows = [(child, 7) for child in children]
    later = model.decode(rows)
    expected = [model.alone(prompt, [*a, 7])[-1] for a in answers[1:]]
    assert_equal(later, expected, "after the parent is gone")
    for child in children:
        model.cache.remove(child)


@pytest.mark.parametrize(("scheme", "opt", "family"), KINDS)
def test_several_rows_of_one_sequence(load: Load, scheme: str, opt: str, family: str) -> None:
    """What is proposed for a sequence is computed in one pass as it would be one by one."""
    model = load(scheme, opt, family)
    prompts, answers = (PROMPTS[4], PROMPTS[6]), (ANSWERS[0], ANSWERS[1])
    wanted = [model.alone(p, a) for p, a in zip(prompts, answers, strict=True)]
    held = [model.cache.add() for _ in prompts]
    model.functions.prefill([Run(o, p[:-1]) for o, p in zip(held, prompts, strict=True)])
    runs = [Run(o, [p[-1], *a]) for o, p, a in zip(held, prompts, answers, strict=True)]
    found = list(model.functions.decode(runs).copy())
    assert_equal(found, [*wanted[0], *wanted[1]], "together")
    for one in held:
        model.cache.remove(one)


@pytest.mark.parametrize(("scheme", "opt", "family"), KINDS)
def test_generated_tokens_again(load: Load, scheme: str, opt: str, family: str) -> None:
    """Keys and values of an answer that was lost are replayed to the bit."""
    model, prompt, answer = load(scheme, opt, family), PROMPTS[5], tokens(30, 77)
    wanted = model.alone(prompt, answer)
    one = model.cache.add()
    model.functions.prefill([Run(one, prompt[:-1])])
    model.functions.replay([Run(one, [prompt[-1], *answer[:-1]])])
    assert_equal(model.decode([(one, answer[-1])]), [wanted[-1]], "replayed")
    model.cache.remove(one)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scores_of_several_sequences(load: Load, scheme: str) -> None:
    """The logits of any rows of a prefill, those of other sequences among them."""
    model = load(scheme, "activations=a16" if scheme.startswith("q4") else "")
    prompts = [PROMPTS[5], PROMPTS[2], PROMPTS[6]]
    held = [model.cache.add() for _ in prompts]
    rows = [154, 3, 0, 54, 39, 40]
    runs = [Run(o, p) for o, p in zip(held, prompts, strict=True)]
    found = model.functions.score(runs, rows).copy()
    for one in held:
        model.cache.remove(one)
    ends = np.cumsum([len(p) for p in prompts])
    for row, logits in zip(rows, found, strict=True):
        which = int(np.searchsorted(ends, row, side="right"))
        begin = int(ends[which - 1]) if which else 0
        wanted = model.alone(prompts[which][: row - begin + 1], [])[0]
        # Decoding sums in another order, and prompts before it are prefilled alike.
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=2e-3 * wanted.std())


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_deterministic_prompts_are_computed_as_answers(
    load: Load, scheme: str, family: str
) -> None:
    model, ids = load(scheme, family=family, deterministic=True), tokens(100, 3)
    (wanted,) = model.alone(ids, [])
    for length in (1, 30, 99):
        assert_equal([model.alone(ids[:length], ids[length:])[-1]], [wanted], str(length))
    one = model.cache.add()
    found = model.functions.score([Run(one, ids)], [99])
    assert_equal(list(found), [wanted], "scored")
    model.cache.remove(one)


Step = tuple[int, int, bool]
STEP = st.tuples(st.integers(0, 3), st.integers(1, 30), st.booleans())
any_steps = given(steps=st.lists(STEP, min_size=1, max_size=25), seed=st.integers(0, 1000))


@any_steps
@settings(max_examples=8)
def test_any_arrivals_and_cuts(load: Load, steps: list[Step], seed: int) -> None:
    check_arrivals_and_cuts(load, steps, seed)


@pytest.mark.slow
@any_steps
@settings(max_examples=25)
def test_many_arrivals_and_cuts(load: Load, steps: list[Step], seed: int) -> None:
    check_arrivals_and_cuts(load, steps, seed)


def check_arrivals_and_cuts(load: Load, steps: list[Step], seed: int) -> None:
    """Prompts come in parts while others decode; each answer is what it is alone."""
    model = load("q4f16_1")
    ids = [tokens(LENGTH, seed * 10 + i) for i in range(4)]
    held = [model.cache.add() for _ in ids]
    lengths = [20 + 31 * i for i in range(4)]
    found: list[list[np.ndarray]] = [[] for _ in ids]
    for which, count, together in steps:
        end = min(len(held[which]) + count, lengths[which] - 1)
        if len(held[which]) < end:
            model.functions.prefill([Run(held[which], ids[which][len(held[which]) : end])])
        ready = [i for i, one in enumerate(held) if len(one) >= lengths[i] - 1]
        for group in [ready] if together else [[i] for i in ready]:
            if group:
                rows = [(held[i], ids[i][len(held[i])]) for i in group]
                for i, logits in zip(group, model.decode(rows), strict=True):
                    found[i].append(logits)
    for i, one in enumerate(held):
        model.cache.remove(one)
        if found[i]:
            answer = ids[i][lengths[i] : lengths[i] + len(found[i]) - 1]
            assert_equal(found[i], model.alone(ids[i][: lengths[i]], answer), f"sequence {i}")


def test_a_full_cache_refuses_and_goes_on(load: Load) -> None:
    model = load("q0f32")
    wanted = model.alone(tokens(32, 1), [5])
    small = KVCache(model.geometry, LENGTH, LENGTH, tvm.cpu(), sequences=2, tokens=60)
    model.functions.use(small)
    try:
        one, other = small.add(), small.add()
        with pytest.raises(ValueError, match="no room for another sequence"):
            small.add()
        model.functions.prefill([Run(one, tokens(31, 1))])
        model.functions.prefill([Run(other, tokens(32, 2))])
        assert small.pool.available == 0
        with raises("generation-failed", 4, error=OutOfPages):
            model.functions.decode([Run(other, (5,))])
        assert len(other) == 32
        (first,) = model.decode([(one, tokens(32, 1)[-1])])
        small.remove(other)
        assert_equal([first, *model.decode([(one, 5)])], wanted, "after it was refused")
    finally:
        model.functions.use(model.cache)


def test_a_sequence_longer_than_the_cache_takes_is_refused(load: Load) -> None:
    model = load("q0f32")
    one = model.cache.add()
    with raises("generation-failed", LENGTH + 1, LENGTH, error=GenerationError):
        model.functions.prefill([Run(one, tokens(LENGTH + 1, 1))])
    assert (len(one), one.pages) == (0, [])
    model.cache.remove(one)
