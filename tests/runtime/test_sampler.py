"""Sampling, against a plain NumPy version that sorts everything in float64."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Sequence
from typing import Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlc_llm.errors import ConfigError, GenerationError
from mlc_llm.runtime.constraint import Words, token_ids
from mlc_llm.runtime.logprobs import LogprobRecorder
from mlc_llm.runtime.sampler import Sampler, SamplingSettings
from mlc_llm.testing import raises

# Steps of 1/4 make equal logits frequent; -inf is a token that is excluded.
LOGITS = hnp.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.integers(-40, 40).map(lambda n: n / 4) | st.just(float("-inf")),
).filter(lambda logits: bool(np.isfinite(logits).any()))

SETTINGS = st.builds(
    SamplingSettings,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_p=st.sampled_from([0.1, 0.5, 0.9, 0.97, 1.0]),
    top_k=st.sampled_from([0, 0, 1, 3, 20, 100]),
    min_p=st.sampled_from([0.0, 0.0, 0.06, 0.5, 1.0]),
    # Exact in float32, so that logits made equal by penalties are equal on both sides.
    repetition_penalty=st.sampled_from([1.0, 2.0, 0.5]),
    presence_penalty=st.sampled_from([0.0, 0.5, -0.75]),
    frequency_penalty=st.sampled_from([0.0, 0.25, -0.5]),
    logit_bias=st.sampled_from([{}, {0: 3.0}, {0: -100.0}]),
)


def _probabilities(
    logits: npt.NDArray[np.float32],
    settings: SamplingSettings,
    generated: Sequence[int] = (),
    prompt: Sequence[int] = (),
    only: Collection[int] | None = None,
) -> npt.NDArray[np.float64]:
    """The distribution that the settings describe, in the plainest way."""
    x = logits.astype(np.float64)
    for token, bias in settings.logit_bias.items():
        x[token] += bias
    for token in {*prompt, *generated}:
        positive = x[token] > 0
        x[token] *= settings.repetition_penalty ** (-1 if positive else 1)
    for token in set(generated):
        x[token] -= settings.presence_penalty
        x[token] -= settings.frequency_penalty * list(generated).count(token)
    if only is not None:
        x[[token not in only for token in range(len(x))]] = -np.inf
    order = np.argsort(-x, kind="stable")
    if settings.temperature == 0:
        return np.eye(len(x))[order[0]]
    p = np.exp((x - x.max()) / settings.temperature)
    if settings.top_k:
        p[order[settings.top_k :]] = 0
    p /= p.sum()
    reached = int(np.searchsorted(np.cumsum(p[order]), settings.top_p - 1e-9))
    p[order[reached + 1 :]] = 0
    p[p < settings.min_p * p.max() * (1 - 1e-6)] = 0
    return p / p.sum()


def _allowed(
    logits: npt.NDArray[np.float32],
    settings: SamplingSettings,
    generated: Sequence[int],
    prompt: Sequence[int],
) -> set[int]:
    """The tokens that may come; a little rounding may let in the first one beyond ``top_p``."""
    wider = dataclasses.replace(settings, top_p=min(1.0, settings.top_p + 1e-5))
    return {
        int(token) for token in np.flatnonzero(_probabilities(logits, wider, generated, prompt))
    }


@hypothesis.given(LOGITS, SETTINGS, st.integers(0, 2**32), st.lists(st.integers(0, 59), max_size=9))
@hypothesis.settings(max_examples=300)
def test_only_allowed_tokens_come(
    logits: npt.NDArray[np.float32], settings: SamplingSettings, seed: int, prompt: list[int]
) -> None:
    logits.flags.writeable = False
    before = logits.copy()
    prompt = [token % logits.size for token in prompt]
    sampler = Sampler(settings, seed, prompt)
    generated: list[int] = []
    for _ in range(6):
        token = sampler.sample(logits)
        assert token in _allowed(logits, settings, generated, prompt)
        generated.append(token)
    np.testing.assert_array_equal(logits, before)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.6},
    {"temperature": 0.1},
    {"temperature": 1.8, "top_p": 0.8},
    {"top_k": 7},
    {"min_p": 0.2},
    {"top_p": 0.3},
    {"top_p": 0.9, "min_p": 0.1},
    {"top_k": 500, "min_p": 0.05},
    {"temperature": 1.4, "top_k": 30, "top_p": 0.9, "min_p": 0.02},
    {"logit_bias": {3: 2.5, 600: 4.0}},
    {"logit_bias": {3: 2.5, 600: 4.0}, "temperature": 0.8, "top_p": 0.7},
]


@pytest.mark.matrix(options=[OPTIONS[i] for i in (0, 3, 8, 9, 11)])
@pytest.mark.parametrize("options", OPTIONS)
def test_frequencies_follow_the_probabilities(options: dict[str, Any]) -> None:
    """A chi-square test; the seed is fixed, so it either always or never passes."""
    # More tokens than the sums have columns, so that every way through the selection is taken.
    size = 2500
    logits = np.random.default_rng(7).normal(scale=2.0, size=size).astype(np.float32)
    settings = SamplingSettings(**options)
    sampler = Sampler(settings, seed=11)
    draws = 20_000
    counts = np.bincount([sampler.sample(logits) for _ in range(draws)], minlength=size)
    expected = _probabilities(logits, settings) * draws
    assert not counts[expected == 0].any()
    # Tokens too rare for the test each are taken together.
    common = expected >= 10
    rare = [np.array([values[~common].sum()]) for values in (counts, expected)]
    observed = np.concatenate([counts[common], rare[0]])
    wanted = np.concatenate([expected[common], rare[1]])
    observed, wanted = observed[wanted > 0], wanted[wanted > 0]
    freedom = max(len(wanted) - 1, 1)
    statistic = float(((observed - wanted) ** 2 / wanted).sum())
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


def test_frequencies_with_penalties_and_a_prompt() -> None:
    """The second token of many answers whose first is always the same; seeds are fixed."""
    logits = np.random.default_rng(5).normal(scale=2.0, size=12).astype(np.float32)
    settings = SamplingSettings(
        repetition_penalty=1.5,
        presence_penalty=0.7,
        frequency_penalty=0.4,
        temperature=0.9,
        top_p=0.97,
        logit_bias={4: 1.5},
    )
    prompt = [1, 4, 4, 9]
    first = SamplingSettings(temperature=0)
    draws = 6000
    counts = np.zeros(12)
    generated = int(logits.argmax())
    for seed in range(draws):
        sampler = Sampler(settings, seed, prompt)
        sampler._seen.add(generated)
        counts[sampler.sample(logits)] += 1
    assert Sampler(first).sample(logits) == generated
    expected = _probabilities(logits, settings, [generated], prompt) * draws
    assert not counts[expected == 0].any()
    allowed = expected > 0
    statistic = float(((counts - expected)[allowed] ** 2 / expected[allowed]).sum())
    freedom = int(allowed.sum()) - 1
    assert statistic < freedom + 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("prompt", [[], [5, 7, 7, 300]])
def test_penalties_follow_what_was_generated(prompt: list[int]) -> None:
    """Greedy with penalties walks as the reference does, also over many different tokens."""
    logits = np.random.default_rng(3).normal(scale=2.0, size=400).astype(np.float32)
    settings = SamplingSettings(
        temperature=0, repetition_penalty=1.2, presence_penalty=0.5, frequency_penalty=0.3
    )
    sampler = Sampler(settings, prompt_ids=prompt)
    generated: list[int] = []
    for _ in range(400):
        expected = int(_probabilities(logits, settings, generated, prompt).argmax())
        generated.append(sampler.sample(logits))
        assert generated[-1] == expected
    assert len(set(generated)) > 64


def test_only_the_repetition_penalty_counts_the_prompt() -> None:
    logits = np.array([2.0, 1.9, -1.0], np.float32)
    for options in ({"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        settings = SamplingSettings(temperature=0, **options)
        assert Sampler(settings, prompt_ids=[0, 0]).sample(logits) == 0
    settings = SamplingSettings(temperature=0, repetition_penalty=1.1)
    assert Sampler(settings, prompt_ids=[0, 0]).sample(logits) == 1
    assert Sampler(settings).sample(logits) == 0


def test_the_repetition_penalty_is_that_of_transformers(torch: Any, transformers: Any) -> None:
    logits = np.random.default_rng(8).normal(size=(1, 90)).astype(np.float32)
    seen = [3, 3, 14, 80, 41]
    processor = transformers.RepetitionPenaltyLogitsProcessor(penalty=1.7)
    expected = processor(torch.tensor([seen]), torch.from_numpy(logits.copy()))[0].numpy()
    sampler = Sampler(SamplingSettings(repetition_penalty=1.7), prompt_ids=seen[:3])
    sampler._prepare((90,))
    for token in seen[3:]:
        sampler._seen.add(token)
    np.testing.assert_allclose(sampler._adjust(logits[0]), expected, rtol=1e-6)


def test_a_seed_makes_it_reproducible() -> None:
    logits = np.random.default_rng(1).normal(size=1000).astype(np.float32)

    def draw(seed: int | None) -> list[int]:
        sampler = Sampler(SamplingSettings(), seed)
        return [sampler.sample(logits) for _ in range(20)]

    assert draw(5) == draw(5)
    assert draw(5) != draw(6)
    assert draw(None) != draw(None)


def test_greedy_takes_the_first_of_equals() -> None:
    assert Sampler(SamplingSettings(temperature=0)).sample(np.array([1, 2, 2], np.float32)) == 1


@pytest.mark.parametrize("temperature", [1e-6, 1e-4, 0.01, 0.1])
def test_tiny_temperatures_do_not_overflow(temperature: float) -> None:
    logits = np.array([-3e38, 5, 6, -np.inf], np.float32)
    sampler = Sampler(SamplingSettings(temperature=temperature), 0)
    assert {sampler.sample(logits) for _ in range(10)} == {2}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(dtype: npt.DTypeLike) -> None:
    assert Sampler(SamplingSettings(top_k=1)).sample(np.array([1, 9, 3], dtype)) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits(bad: float, temperature: float) -> None:
    for position in (0, 500, 999):
        logits = np.zeros(1000, np.float32)
        logits[position] = bad
        with raises("logits-not-finite", str(bad), f"token {position}", error=GenerationError):
            Sampler(SamplingSettings(temperature=temperature)).sample(logits)


def test_logits_that_exclude_every_token() -> None:
    with raises("logits-not-finite", "-inf", error=GenerationError):
        Sampler(SamplingSettings()).sample(np.full(4, -np.inf, np.float32))


@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_shapes_that_are_no_logits(shape: tuple[int, ...]) -> None:
    with raises("generation-failed", str(shape), error=GenerationError):
        Sampler(SamplingSettings()).sample(np.zeros(shape, np.float32))


def test_the_vocabulary_may_not_change_in_an_answer() -> None:
    sampler = Sampler(SamplingSettings())
    sampler.sample(np.zeros(4, np.float32))
    with raises("generation-failed", "(5,)", error=GenerationError):
        sampler.sample(np.zeros(5, np.float32))


def test_a_bias_for_a_token_that_there_is_not() -> None:
    with raises("token-unknown", "[7]", 4, error=ConfigError):
        Sampler(SamplingSettings(logit_bias={1: 1.0, 7: 1.0})).sample(np.zeros(4, np.float32))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"presence_penalty": 3.0},
        {"frequency_penalty": -3.0},
        {"logit_bias": {-1: 1.0}},
        {"logit_bias": {1: float("nan")}},
    ],
)
def test_settings_out_of_range(options: dict[str, Any]) -> None:
    with raises("config-invalid", next(iter(options)), error=ConfigError):
        SamplingSettings(**options)


def _words(allowed: Collection[int], size: int) -> Words:
    """A set of tokens; bits beyond the vocabulary are set, and must be of no account."""
    words = np.zeros(-(-size // 32), np.uint32)
    for token in [*allowed, *range(size, 32 * len(words))]:
        words[token // 32] |= np.uint32(1 << token % 32)
    return words


class TestAllowedTokens:
    @pytest.mark.parametrize("size", [1, 31, 32, 33, 1000])
    def test_a_set_of_tokens(self, size: int) -> None:
        allowed = set(np.random.default_rng(size).integers(size, size=size // 2).tolist())
        assert token_ids(_words(allowed, size), size).tolist() == sorted(allowed)

    @hypothesis.given(LOGITS, SETTINGS, st.integers(0, 2**32), st.sets(st.integers(0, 59)))
    @hypothesis.settings(max_examples=100)
    def test_no_other_tokens_come(
        self,
        logits: npt.NDArray[np.float32],
        settings: SamplingSettings,
        seed: int,
        allowed: set[int],
    ) -> None:
        """By the plain version, with what is not allowed left out after biases and penalties."""
        allowed = {token % logits.size for token in allowed}
        hypothesis.assume(any(np.isfinite(logits[token]) for token in allowed))
        logits.flags.writeable = False
        words = _words(allowed, logits.size)
        words.flags.writeable = False
        wider = dataclasses.replace(settings, top_p=min(1.0, settings.top_p + 1e-5))
        sampler, generated = Sampler(settings, seed), list[int]()
        for _ in range(6):
            token = sampler.sample(logits, words)
            assert _probabilities(logits, wider, generated, only=allowed)[token] > 0
            generated.append(token)

    @pytest.mark.parametrize("options", [OPTIONS[i] for i in (0, 3, 9, 11)])
    def test_frequencies_follow_the_probabilities(self, options: dict[str, Any]) -> None:
        size, draws = 2500, 10_000
        random = np.random.default_rng(17)
        logits = random.normal(scale=2.0, size=size).astype(np.float32)
        # The likeliest tokens are not allowed.
        allowed = set(range(size)) - set(np.argsort(-logits)[:40].tolist()) - {5, 77}
        settings = SamplingSettings(**options)
        sampler, words = Sampler(settings, seed=11), _words(allowed, size)
        counts = np.bincount([sampler.sample(logits, words) for _ in range(draws)], minlength=size)
        expected = _probabilities(logits, settings, only=allowed) * draws
        assert not counts[expected == 0].any()
        common = expected >= 10
        observed = np.append(counts[common], counts[~common].sum())
        wanted = np.append(expected[common], expected[~common].sum())
        observed, wanted = observed[wanted > 0], wanted[wanted > 0]
        freedom = max(len(wanted) - 1, 1)
        statistic = float(((observed - wanted) ** 2 / wanted).sum())
        assert statistic < freedom + 4 * np.sqrt(2 * freedom)

    def test_all_tokens_allowed_is_as_none_named(self) -> None:
        logits = np.random.default_rng(2).normal(size=500).astype(np.float32)
        settings = SamplingSettings(temperature=0.9, top_p=0.9, frequency_penalty=0.2)
        free, bound = Sampler(settings, 3), Sampler(settings, 3)
        words = _words(range(500), 500)
        for _ in range(50):
            assert free.sample(logits) == bound.sample(logits, words)

    def test_the_largest_logit_may_be_left_out(self) -> None:
        logits = np.array([9.0, 5.0, 7.0, 7.0], np.float32)
        greedy = Sampler(SamplingSettings(temperature=0))
        assert greedy.sample(logits, _words({1, 2, 3}, 4)) == 2
        assert greedy.sample(logits, _words({1}, 4)) == 1

    def test_penalties_count_what_was_not_sampled(self) -> None:
        logits = np.array([2.0, 1.9, -1.0], np.float32)
        sampler = Sampler(SamplingSettings(temperature=0, frequency_penalty=0.5))
        sampler.count(0)
        assert sampler.sample(logits) == 1

    @pytest.mark.parametrize("temperature", [0.0, 1.0])
    def test_no_token_is_allowed(self, temperature: float) -> None:
        sampler = Sampler(SamplingSettings(temperature=temperature))
        with raises("grammar-stuck", error=GenerationError):
            sampler.sample(np.zeros(40, np.float32), _words((), 40))

    def test_a_broken_logit_is_named_by_its_token(self) -> None:
        logits = np.zeros(40, np.float32)
        logits[33] = np.nan
        with raises("logits-not-finite", "token 33", error=GenerationError):
            Sampler(SamplingSettings()).sample(logits, _words({1, 33}, 40))

    @pytest.mark.parametrize("words", [1, 3])
    def test_a_set_for_another_vocabulary(self, words: int) -> None:
        with raises("generation-failed", f"({words},)", 40, error=GenerationError):
            Sampler(SamplingSettings()).sample(np.zeros(40), np.zeros(words, np.uint32))

    def test_logprobs_are_those_of_the_model(self) -> None:
        """Not those among what is allowed."""
        logits = np.log(np.array([0.5, 0.25, 0.25], np.float32))
        token = Sampler(SamplingSettings()).sample(logits, _words({1}, 3))
        recorded = LogprobRecorder(1, str).record(logits, token)
        assert recorded.logprob == pytest.approx(np.log(0.25))
        assert [other.token_id for other in recorded.top] == [0]


@pytest.mark.parametrize("options", [{}, {"top_p": 0.95}, {"top_k": 40, "top_p": 0.9}])
def test_a_large_vocabulary_is_quick(options: dict[str, Any]) -> None:
    """Below 0.2 ms; the bound only tells vectorised code from a loop or a full argsort."""
    random = np.random.default_rng(0)
    logits = random.normal(scale=2.0, size=128_000).astype(np.float32)
    logits[random.integers(0, 128_000, 50)] += 15
    sampler = Sampler(SamplingSettings(**options), 0)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        sampler.sample(logits)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.002
