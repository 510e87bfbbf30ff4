"""Answers that must match a grammar, written by the scheduler beside others."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tvm

import mlc_llm
from mlc_llm.grammar import GrammarCompiler, ResponseFormat
from mlc_llm.runtime.answer import Answer, Ending, GenerationResult
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.generation import Generation
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.outbox import Outbox
from mlc_llm.runtime.request import Request
from mlc_llm.runtime.sampler import SamplingSettings
from mlc_llm.runtime.scheduler import Scheduler
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.tokenizer import PromptTokens, Tokenizer, load_tokenizer
from mlc_llm.weights.folder import ModelFolder

DEMO = Path(mlc_llm.__file__).parent / "demo"
SCHEMA = {
    "type": "object",
    "properties": {
        "the first name of the person": {"type": "string", "pattern": "^[a-z]{1,8}$"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["the first name of the person", "age"],
    "additionalProperties": False,
}


class Constrained:
    """The demo model and its grammars."""

    def __init__(self, library: Path) -> None:
        self.folder = ModelFolder.open(DEMO)
        window = ContextWindow(256, 64, 4, 1024)
        self.model = LoadedModel.load(library, self.folder, tvm.cpu(), window)
        self.tokenizer: Tokenizer = load_tokenizer(DEMO)
        self.compiler = GrammarCompiler(self.tokenizer, self.model.vocab_size)

    def request(self, wanted: Any, seed: int | None, **more: Any) -> Request:
        grammar = None
        if wanted is not None:
            parsed = ResponseFormat.parse(wanted)
            assert parsed is not None
            grammar = self.compiler.compile(parsed)
        sampling = SamplingSettings(temperature=0 if seed is None else 1.5)
        ending = Ending(230, self.tokenizer.end_ids)
        prompt = PromptTokens(self.tokenizer.encode("one two three"))
        return Request(prompt, ending, sampling, seed, grammar=grammar, **more)

    def answers(self, *requests: Request) -> list[GenerationResult]:
        self.model.reset()
        scheduler, asked = Scheduler(self.model), []
        for request in requests:
            outbox = Outbox(lambda: None, bounded=False)
            scheduler.add(Generation(request, self.tokenizer, outbox, Metrics()))
            asked.append((request, outbox))
        while scheduler.has_work:
            scheduler.step()
        results = []
        for request, outbox in asked:
            answer = Answer(len(request.prompt.ids), request.logprobs is not None)
            while (batch := outbox.get(0)) is not None:
                for delta in batch:
                    answer.add(delta)
            results.append(answer.result())
        return results


@pytest.fixture(scope="module")
def demo(make_library: Any) -> Constrained:
    return Constrained(make_library(DEMO))


JSON = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
REGEX = {"type": "regex", "regex": r"(red|green|blue), [0-9]{3}"}


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3, 4, 5, 6, 7])
def test_each_answer_matches(demo: Constrained, seed: int | None) -> None:
    person, color, free = demo.answers(
        demo.request(JSON, seed), demo.request(REGEX, seed), demo.request(None, seed)
    )
    value = json.loads(person.text)
    assert list(value) == list(SCHEMA["properties"])  # type: ignore[call-overload]
    assert re.fullmatch("[a-z]{1,8}", value["the first name of the person"])
    assert 0 <= value["age"] <= 120
    assert re.fullmatch(REGEX["regex"], color.text)
    assert (person.finish_reason, color.finish_reason) == ("stop", "stop")
    assert free == demo.answers(demo.request(None, seed))[0]


@pytest.mark.parametrize("seed", [None, 3])
def test_each_is_what_it_is_alone(demo: Constrained, seed: int | None) -> None:
    """Among others, with guesses, and with log-probabilities."""
    alone = [demo.answers(demo.request(wanted, seed))[0] for wanted in (JSON, REGEX, None)]
    mixed = [demo.request(wanted, seed, proposes=True) for wanted in (JSON, REGEX, None)]
    assert [r.token_ids for r in demo.answers(*mixed)] == [r.token_ids for r in alone]
    recorded = [replace(request, logprobs=2) for request in mixed]
    for found, expected in zip(demo.answers(*recorded), alone, strict=True):
        assert found.token_ids == expected.token_ids
        assert found.logprobs is not None
        assert [one.token_id for one in found.logprobs] == list(found.token_ids)


def test_what_leaves_no_choice_is_not_sampled(
    demo: Constrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of the schema cost no steps: they are computed with what is written next."""
    decode, passes = demo.model.functions.decode, []

    def count(runs: Any) -> Any:
        passes.append(len(runs[0].tokens))
        return decode(runs)

    monkeypatch.setattr(demo.model.functions, "decode", count)
    [person] = demo.answers(demo.request(JSON, 1))
    names = sum(len(demo.tokenizer.encode(f'"{name}": ')) for name in SCHEMA["properties"])  # type: ignore[attr-defined]
    assert len(passes) < len(person.token_ids) - names / 2
    assert max(passes) == 8


def test_the_end_of_the_answer_comes_first(demo: Constrained) -> None:
    [cut] = demo.answers(replace(demo.request(JSON, 1), ending=Ending(5)))
    assert (len(cut.token_ids), cut.finish_reason, cut.limit) == (5, "length", "max_gen_len")
    [stopped] = demo.answers(
        replace(demo.request(REGEX, 1), ending=Ending(50, frozenset(), (",",)))
    )
    assert stopped.text in ("red", "green", "blue")
    assert stopped.finish_reason == "stop"
