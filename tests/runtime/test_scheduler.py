"""Many answers on one model: each is what it is alone, whatever else is served."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm.errors import GenerationError, PromptTooLongError, TokenizerError
from mlc_llm.runtime.answer import Ending
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.request import Request
from mlc_llm.runtime.sequence import CachedSequence
from mlc_llm.testing import raises
from mlc_llm.tokenizer import PromptTokens

from .conftest import Loader
from .served import Served, wanted
from .toy_library import reference_logits

WINDOW = 96


def ids(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(1, 40, count).tolist()


Serve = Callable[..., Served]


@pytest.fixture
def serve(load: Loader) -> Serve:
    """A toy that serves, with room for so many sequences and tokens, reading so much at a time."""

    def make(sequences: int = 4, tokens: int = 400, chunk: int = 32) -> Served:
        model = load()
        model.resize(ContextWindow(WINDOW, chunk, sequences, tokens))
        return Served(model)

    return make


def greedy(prompt: list[int], count: int) -> list[int]:
    """What the toy writes, by NumPy."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(reference_logits(tokens).argmax()))
    return tokens[len(prompt) :]


def test_answers_that_are_written_together_equal_numpy(serve: Serve) -> None:
    served = serve()
    prompts = [ids(length, length) for length in (1, 5, 16, 17, 40, 70)]
    asked = [served.ask(wanted(prompt)) for prompt in prompts]
    served.finish()
    for one, prompt in zip(asked, prompts, strict=True):
        assert list(one.result.token_ids) == greedy(prompt, 10)
        assert len(prompt) - 16 < one.result.prefilled_tokens <= len(prompt)
        assert one.result.finish_reason == "length"


def test_one_pass_writes_a_token_of_each(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()
    decode, rows = served.model.functions.decode, []

    def count(runs: list) -> np.ndarray:
        rows.append(len(runs))
        return decode(runs)

    monkeypatch.setattr(served.model.functions, "decode", count)
    for seed in range(6):
        served.ask(wanted(ids(8, seed)))
    served.finish()
    assert rows == [4] * 10 + [2] * 10  # there is room for four


def test_a_prompt_that_is_read_now_is_not_read_twice(serve: Serve) -> None:
    """Those that begin alike wait a step for the first, and share its pages."""
    served = serve(chunk=96)
    common = ids(40, 1)
    asked = [served.ask(wanted([*common, token])) for token in (1, 2, 3)]
    served.finish()
    assert [one.result.prefilled_tokens for one in asked] == [41, 9, 9]
    for one in asked:
        assert list(one.result.token_ids) == greedy(list(one.request.prompt.ids), 10)


def test_a_conversation_is_not_read_again(serve: Serve) -> None:
    """An agent's turns: only what is new is read, while others come in between."""
    served = serve(tokens=600)
    prompt: list[int] = ids(10, 0)
    generated: tuple[range, ...] = ()
    for turn in range(6):
        asked = served.ask(Request(PromptTokens(prompt, generated), Ending(6)))
        other = served.ask(wanted(ids(30, 100 + turn)))
        served.finish()
        new = len(prompt) if turn == 0 else 5
        # The last token that was generated was not fed, and the last one of a prompt is decoded.
        assert asked.result.prefilled_tokens <= new + 1
        assert list(other.result.token_ids) == greedy(ids(30, 100 + turn), 10)
        answer = asked.result.token_ids
        generated = (*generated, range(len(prompt), len(prompt) + len(answer)))
        prompt = [*prompt, *answer, *ids(4, turn)]


def test_without_pages_the_last_one_waits(serve: Serve) -> None:
    """It gives its pages up, and goes on to the same end."""
    served = serve(tokens=128)
    prompts = [ids(30, seed) for seed in range(4)]
    asked = [served.ask(wanted(prompt, 50, seed=7)) for prompt in prompts]
    most = 0
    while served.scheduler.has_work:
        served.step()
        most = max(most, len(served.scheduler._writing))
    assert most >= 3
    for one in asked:
        assert one.result == served.alone(one.request)
    assert served.model.cache.pool.available == 8


def test_what_does_not_fit_is_not_looked_up_in_each_step(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again when an answer has left or was put off, but not in each step of the others."""
    served = serve(tokens=128)
    cache = served.model.cache
    attach, looked_up = cache.attach, []

    def count(sequence: CachedSequence, tokens: list[int], phases: bytes) -> None:
        looked_up.append(len(tokens))
        attach(sequence, tokens, phases)

    monkeypatch.setattr(cache, "attach", count)
    asked = [served.ask(wanted(ids(60, seed), 20)) for seed in range(3)]
    served.finish()
    for one in asked:
        assert list(one.result.token_ids) == greedy(list(one.request.prompt.ids), 20)
    assert len(looked_up) <= 10  # 37, if each step looked it up


def test_guesses_change_nothing_but_the_number_of_passes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After this prompt the toy repeats a token."""
    served = serve()
    decode, passes = served.model.functions.decode, []

    def count(runs: list) -> np.ndarray:
        passes.append([len(run.tokens) for run in runs])
        return decode(runs)

    monkeypatch.setattr(served.model.functions, "decode", count)
    prompt = [34]
    for tokens in (1, 2, 40, 80):
        passes.clear()
        asked = served.ask(wanted(prompt, tokens, proposes=True))
        served.finish()
        assert list(asked.result.token_ids) == greedy(prompt, tokens)
        assert asked.generation.metrics.decode.tokens == tokens - 1
    assert len(passes) < 20
    assert max(rows for [rows] in passes) == 8
    assert served.model.cache.pool.available == 25


def test_a_reader_that_does_not_read_holds_up_itself_alone(serve: Serve) -> None:
    served = serve()
    slow = served.ask(wanted(ids(5, 1), 80), bounded=True)
    served.asked.remove(slow)  # nobody reads it
    slow.outbox._given = 64
    quick = served.ask(wanted(ids(5, 2)))
    served.finish()
    assert quick.result.finish_reason == "length"
    assert slow.generation.generated == 0
    slow.outbox._given = 0
    served.asked.append(slow)
    served.finish()
    assert list(slow.result.token_ids) == greedy(ids(5, 1), 80)


def test_what_cannot_be_answered_fails_alone(serve: Serve) -> None:
    served = serve()
    good = served.ask(wanted(ids(5, 1)))
    long, unknown = served.ask(wanted(ids(97, 1))), served.ask(wanted([1, 2, 10_000]))
    served.finish()
    assert isinstance(long.error, PromptTooLongError)
    assert isinstance(unknown.error, TokenizerError)
    assert list(good.result.token_ids) == greedy(ids(5, 1), 10)


@pytest.mark.parametrize("function", ["prefill", "decode"])
def test_a_pass_that_fails(serve: Serve, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    """Whoever took part in it gets the error; the others are answered, and nothing is lost."""
    served = serve()
    first = served.ask(wanted(ids(20, 1)))
    with monkeypatch.context() as patch:

        def fail(runs: object) -> None:
            raise GenerationError("broken")

        patch.setattr(served.model.functions, function, fail)
        served.step()
        with raises("generation-failed", "broken", error=GenerationError):
            raise first.error or AssertionError
    second = served.ask(wanted(ids(20, 1)))
    served.finish()
    assert list(second.result.token_ids) == greedy(ids(20, 1), 10)
    assert served.model.cache.pool.available == 25


def test_an_answer_that_fails_at_once_counts_no_tokens(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others that were decoded with it go on."""
    served = serve()
    decode = served.model.functions.decode

    def spoil_the_first(runs: list) -> np.ndarray:
        logits = np.array(decode(runs))
        logits[0] = np.nan
        return logits

    with monkeypatch.context() as patch:
        patch.setattr(served.model.functions, "decode", spoil_the_first)
        bad, good = served.ask(wanted(ids(5, 1))), served.ask(wanted(ids(5, 2)))
        served.step()
    served.finish()
    with raises("logits-not-finite", error=GenerationError):
        raise bad.error or AssertionError
    assert bad.generation.metrics.decode.tokens == 0
    assert list(good.result.token_ids) == greedy(ids(5, 2), 10)


def test_ending_all(serve: Serve) -> None:
    served = serve(sequences=2)
    asked = [served.ask(wanted(ids(5, seed))) for seed in range(4)]
    served.step()
    served.scheduler.fail(GenerationError("closed"))
    for one in asked:
        one.drain()
    assert [str(one.error) for one in asked] == ["closed"] * 4
    assert not served.scheduler.has_work


Event = tuple[int, int, int, int]
"""What a client does: which of few beginnings, how much more, how many tokens, when it goes."""

EVENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 25), st.integers(1, 20), st.integers(0, 40)),
    min_size=1,
    max_size=9,
)


@given(
    events=EVENTS,
    sequences=st.integers(1, 5),
    pages=st.integers(6, 20),
    chunk=st.sampled_from([1, 7, 32]),
    seed=st.integers(0, 1000),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each resizes the model
)
def test_any_trace(
    load: Loader, events: list[Event], sequences: int, pages: int, chunk: int, seed: int
) -> None:
    """Any arrivals, cuts of prompts, cancellations, lack of pages and finds of earlier prompts."""
    model = load()
    model.resize(ContextWindow(WINDOW, chunk, sequences, 16 * pages))
    served, rng = Served(model), random.Random(seed)
    leaves = {}
    for number, (begin, more, tokens, patience) in enumerate(events):
        prompt = [*ids(20 * begin, begin), *ids(more, rng.randrange(3))]
        asked = served.ask(wanted(prompt, tokens, seed=number, proposes=number % 3 == 1))
        if patience < 20:
            leaves[number] = patience
        for _ in range(rng.randrange(4)):
            served.step()
            for which in [n for n, left in leaves.items() if left <= 0]:
                served.asked[which].generation.cancelled = True
                del leaves[which]
            leaves = {n: left - 1 for n, left in leaves.items()}
        assert not asked.error
    served.finish()
    pool = model.cache.pool
    assert pool.available == pages
    for asked in served.asked:
        request = replace(asked.request, proposes=False)
        result, alone = asked.result, Served(model).alone(request)
        if asked.generation.finished:
            assert (result.token_ids, result.text) == (alone.token_ids, alone.text)
            assert result.finish_reason == alone.finish_reason
        else:
            assert asked.generation.cancelled
            assert alone.token_ids[: len(result.token_ids)] == result.token_ids


@pytest.mark.slow
def test_ten_thousand_requests(load: Loader) -> None:
    """Nothing grows, no answer is lost or another's."""
    model = load()
    model.resize(ContextWindow(WINDOW, 32, 8, 600))
    served, rng = Served(model), random.Random(1)
    known: dict[tuple[int, int], tuple[int, ...]] = {}
    complete = 0
    for number in range(10_000):
        which, tokens = rng.randrange(50), rng.randrange(1, 12)
        prompt = ids(1 + which, which)
        if number % 97 == 0:
            prompt = ids(200, which)
        asked = served.ask(wanted(prompt, tokens, seed=which))
        if rng.random() < 0.1:
            asked.generation.cancelled = True
        while len(served.scheduler._waiting) > 4:
            served.step()
        for one in [*served.asked]:
            if not (one.generation.finished or one.generation.cancelled):
                continue
            served.asked.remove(one)
            if one.error is None and one.generation.finished:
                found = one.result.token_ids
                key = (len(one.request.prompt.ids), one.request.ending.max_tokens)
                assert known.setdefault(key, found) == found
                complete += 1
    served.finish()
    assert complete > 8_000
    prefixes = model.cache._prefixes
    assert model.cache.pool.available == 38
    assert len(prefixes._known) <= 38
    assert sum(map(len, prefixes._after.values())) == len(prefixes._known)
