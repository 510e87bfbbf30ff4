"""One answer: how it ends, what it yields, and that it can be cut off anywhere."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import cast

import pytest

from mlc_llm.runtime.answer import Answer, Delta, Ending, GenerationResult
from mlc_llm.runtime.engine import Engine, Stop
from mlc_llm.runtime.generation import Generation
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.outbox import Outbox
from mlc_llm.runtime.request import Request
from mlc_llm.runtime.sampler import SamplingSettings
from mlc_llm.runtime.scheduler import Scheduler
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.tokenizer import PromptTokens, Tokenizer

from .conftest import Loader
from .served import LETTERS, LetterTokenizer
from .toy_library import reference_logits

PROMPT = [3, 1, 4, 1, 5]


def answer(
    ending: Ending, outbox: Outbox, metrics: Metrics, prompt: list[int] = PROMPT
) -> Generation:
    request = Request(PromptTokens(prompt), ending, SamplingSettings(temperature=0))
    return Generation(request, cast(Tokenizer, LetterTokenizer()), outbox, metrics)


def steps(
    model: LoadedModel, ending: Ending, prompt: list[int] = PROMPT
) -> Generator[Delta, None, None]:
    """Write an answer in this thread; closing the generator cancels it."""
    scheduler, outbox = Scheduler(model), Outbox(lambda: None, bounded=False)
    generation = answer(ending, outbox, model.metrics, prompt)
    scheduler.add(generation)
    try:
        while not generation.finished:
            scheduler.step()
            outbox.flush()
            while not outbox.is_empty and (batch := outbox.get(0)):
                yield from batch
    finally:
        generation.cancelled = True
        scheduler.step()
    assert not scheduler.has_work


def run(model: LoadedModel, ending: Ending, prompt: list[int] = PROMPT) -> GenerationResult:
    deltas = list(steps(model, ending, prompt))
    reasons = [delta.finish_reason for delta in deltas]
    assert None not in reasons[-1:]
    assert set(reasons[:-1]) == {None}
    return total(deltas, prompt)


def total(deltas: Iterable[Delta], prompt: list[int] = PROMPT) -> GenerationResult:
    answer = Answer(len(prompt), records=False)
    for delta in deltas:
        answer.add(delta)
    return answer.result()


def greedy(count: int) -> list[int]:
    """What the toy writes after the prompt, by NumPy."""
    ids = list(PROMPT)
    for _ in range(count):
        ids.append(int(reference_logits(ids).argmax()))
    return ids[len(PROMPT) :]


def test_greedy_tokens_equal_numpy(load: Loader) -> None:
    result = run(load(), Ending(30))
    assert list(result.token_ids) == greedy(30)
    assert result.text == "".join(LETTERS[token] for token in greedy(30))
    assert result.finish_reason == "length"
    assert (result.prompt_tokens, result.prefilled_tokens) == (5, 5)


def test_a_second_run_reuses_the_prompt(load: Loader) -> None:
    model = load()
    first = run(model, Ending(10))
    second = run(model, Ending(10))
    assert second.token_ids == first.token_ids
    assert second.prefilled_tokens == 1


def first_of_its_kind(tokens: list[int]) -> int:
    """A position after the first one of a token that did not come before."""
    return next(i for i in range(1, len(tokens)) if tokens[i] not in tokens[:i])


def test_a_stop_token_is_no_part_of_the_answer(load: Loader) -> None:
    tokens = greedy(20)
    at = first_of_its_kind(tokens)
    result = run(load(), Ending(20, frozenset([tokens[at]])))
    assert list(result.token_ids) == tokens[:at]
    assert result.finish_reason == "stop"
    at_once = run(load(), Ending(20, frozenset([tokens[0]])))
    assert (at_once.text, at_once.token_ids, at_once.finish_reason) == ("", (), "stop")


def test_a_stop_string_is_no_part_of_the_text(load: Loader) -> None:
    tokens = greedy(20)
    text = "".join(LETTERS[token] for token in tokens)
    at = first_of_its_kind(tokens)
    result = run(load(), Ending(20, stop_strings=(text[at : at + 2],)))
    assert result.text == text[:at]
    assert result.finish_reason == "stop"
    # The letter that completes the stop string is certain only with the token after it.
    assert list(result.token_ids) == tokens[: at + 3]


def test_a_stop_string_at_the_very_end(load: Loader) -> None:
    """The last letter is held back until the end, and completes the stop string there."""
    tokens = greedy(20)
    at = first_of_its_kind(tokens)
    result = run(load(), Ending(at + 1, stop_strings=(LETTERS[tokens[at]],)))
    assert result.text == "".join(LETTERS[token] for token in tokens[:at])
    assert result.finish_reason == "stop"


def test_the_end_of_the_window(load: Loader) -> None:
    result = run(load(context_window_size=20), Ending(1000))
    assert result.finish_reason == "length"
    # The last token needs no room, because it is not fed.
    assert list(result.token_ids) == greedy(16)


def test_one_event_for_each_chunk_and_token(load: Loader) -> None:
    model = load(prefill_chunk_size=2)
    counts = [(delta.prefilled, len(delta.token_ids)) for delta in steps(model, Ending(4))]
    assert counts == [(2, 0), (3, 0), *[(0, 1)] * 4, (0, 0)]
    assert model.metrics.prefill.tokens == 5
    assert model.metrics.decode.tokens == 3


@pytest.mark.parametrize("events", range(1, 9))
def test_cutting_off_leaves_the_model_usable(load: Loader, events: int) -> None:
    model = load(prefill_chunk_size=2)
    running = steps(model, Ending(10))
    for _ in range(events):
        next(running)
    running.close()
    assert list(run(model, Ending(10)).token_ids) == greedy(10)


def test_through_the_engine(load: Loader, engine: Engine) -> None:
    def make(stop: Stop) -> LoadedModel:
        model = load()
        engine.run_steps(Scheduler(model))
        return model

    metrics = engine.call(make).metrics
    outbox = Outbox(engine.wake)
    cut = answer(Ending(10), outbox, metrics)
    engine.submit(cut)
    next(engine.steps_of(outbox))
    engine.cancel(cut)
    outbox = Outbox(engine.wake)
    engine.submit(answer(Ending(10), outbox, metrics))
    assert list(total(engine.steps_of(outbox)).token_ids) == greedy(10)
