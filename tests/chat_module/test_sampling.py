"""Every sampling option has its effect through ``GenerationConfig`` and ``ChatConfig``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlc_llm import ChatConfig, ChatModule, GenerationConfig
from mlc_llm.errors import ConfigError
from mlc_llm.testing import raises

from .conftest import Loader

PROMPT = "The girl"


@pytest.fixture(scope="module")
def raw(folder: Path, library: str) -> Iterator[ChatModule]:
    """A chat without a template that everything here shares; it keeps no history."""
    config = ChatConfig(temperature=1.0, max_gen_len=40)
    with ChatModule(str(folder), "cpu", config, library) as chat:
        yield chat


def tokens(chat: ChatModule, **options: Any) -> tuple[int, ...]:
    chat.generate(PROMPT, GenerationConfig(**options))
    return chat.results[0].token_ids


@pytest.mark.parametrize(
    "options", [{"temperature": 1e-6}, {"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}]
)
def test_what_amounts_to_greedy(raw: ChatModule, options: dict[str, Any]) -> None:
    assert tokens(raw, **options) == tokens(raw, temperature=0)


def test_a_seed(raw: ChatModule) -> None:
    assert tokens(raw, seed=1) == tokens(raw, seed=1) != tokens(raw, seed=2)
    assert tokens(raw) != tokens(raw)


def test_what_is_kept(raw: ChatModule) -> None:
    """Each token is among those that the options leave, as the model's probabilities tell."""
    for options in (
        {"top_k": 3},
        {"top_p": 0.7},
        {"min_p": 0.3},
        {"top_k": 5, "top_p": 0.8, "min_p": 0.1},
    ):
        raw.generate(PROMPT, GenerationConfig(seed=6, logprobs=20, **options))
        recorded = raw.results[0].logprobs
        assert recorded is not None
        for entry in recorded:
            p = [math.exp(other.logprob) for other in entry.top]
            listed = [other.token_id for other in entry.top]
            if entry.token_id not in listed:  # Only a nucleus may be that large.
                assert sum(p) < options.get("top_p", 0.0)
                continue
            rank = listed.index(entry.token_id)
            kept = p[: options.get("top_k", 20)]
            assert rank < len(kept)
            total = sum(kept) if "top_k" in options else 1.0
            assert sum(kept[:rank]) < options.get("top_p", 1.0) * total + 1e-5
            assert p[rank] >= options.get("min_p", 0.0) * p[0] * (1 - 1e-5)


def test_presence_and_frequency_penalties_count_the_answer(raw: ChatModule) -> None:
    """Greedy takes what is likeliest after the penalties; those of the prompt do not count."""
    options = {"presence_penalty": 1.1, "frequency_penalty": 0.3}
    raw.generate(PROMPT, GenerationConfig(temperature=0, logprobs=20, **options))
    (result,) = raw.results
    assert result.logprobs is not None
    assert result.token_ids != tokens(raw, temperature=0)
    seen: Counter[int] = Counter()
    for entry in result.logprobs:
        penalized = {
            other.token_id: other.logprob
            - options["presence_penalty"] * (seen[other.token_id] > 0)
            - options["frequency_penalty"] * seen[other.token_id]
            for other in entry.top
        }
        assert entry.token_id == max(penalized, key=lambda token: penalized[token])
        seen[entry.token_id] += 1


def test_logit_bias(raw: ChatModule) -> None:
    letter = 3 + ord("Z")
    assert set(tokens(raw, logit_bias={letter: 100.0})) == {letter}
    first = tokens(raw, temperature=0)[0]
    assert first not in tokens(raw, temperature=0, logit_bias={first: -100.0})
    with raises("token-unknown", "[320]", error=ConfigError):
        tokens(raw, logit_bias={320: 1.0})


def test_the_chats_own_settings_hold_where_the_generation_says_nothing(load: Loader) -> None:
    raw = load(temperature=1.0, top_p=1e-6)
    assert tokens(raw) == tokens(raw, temperature=0)
    assert tokens(raw, seed=1) != tokens(raw, seed=1, top_p=1.0)
    assert tokens(raw, seed=1) == tokens(raw, temperature=0)  # for that answer only


class TestLogprobs:
    def test_none_unless_asked(self, raw: ChatModule) -> None:
        tokens(raw)
        assert raw.results[0].logprobs is None

    def test_zero_alternatives(self, raw: ChatModule) -> None:
        ids = tokens(raw, seed=1, logprobs=0)
        recorded = raw.results[0].logprobs
        assert recorded is not None
        assert [(entry.token_id, entry.top) for entry in recorded] == [(token, ()) for token in ids]
        assert all(entry.logprob < 0 for entry in recorded)

    def test_do_not_change_the_answer(self, raw: ChatModule) -> None:
        assert tokens(raw, seed=1, logprobs=20) == tokens(raw, seed=1)

    def test_of_an_answer_that_a_stop_string_cut(self, raw: ChatModule) -> None:
        """They are of all its tokens, those of the stop string included."""
        text = raw.generate(PROMPT, GenerationConfig(temperature=0))
        raw.generate(PROMPT, GenerationConfig(temperature=0, logprobs=1, stop=str(text)[10:12]))
        (result,) = raw.results
        assert result.logprobs is not None
        assert tuple(entry.token_id for entry in result.logprobs) == result.token_ids
        spelled = bytes(entry.token_id - 3 for entry in result.logprobs).decode()
        assert spelled == result.text + str(text)[10:12]
