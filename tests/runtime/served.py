"""A scheduler that tests drive step by step, and what it was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from mlc_llm.errors import MLCError
from mlc_llm.runtime.answer import Answer, Delta, Ending, GenerationResult
from mlc_llm.runtime.generation import Generation
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.outbox import Outbox
from mlc_llm.runtime.request import Request
from mlc_llm.runtime.sampler import SamplingSettings
from mlc_llm.runtime.scheduler import Scheduler
from mlc_llm.runtime.statistics import Metrics
from mlc_llm.tokenizer import Detokenizer, PromptTokens, Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Letters(Detokenizer):
    """A letter for each token; holds one back, as a tokenizer of bytes may."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, token_id: int) -> str:
        text, self._held = self._held, LETTERS[token_id % len(LETTERS)]
        return text

    def finish(self) -> str:
        return self._held


class LetterTokenizer:
    """As much of a tokenizer as an answer needs."""

    def stream(self, continues: bool = False) -> Letters:
        return Letters()


@dataclass
class Asked:
    """A request, and what became of it."""

    request: Request
    generation: Generation
    outbox: Outbox
    deltas: list[Delta]
    error: BaseException | None = None

    def drain(self) -> None:
        """Take the steps that are there, as a reader does."""
        self.outbox.flush()
        while not self.outbox.is_empty:
            try:
                self.deltas += self.outbox.get(0) or []
            except MLCError as error:
                self.error = error

    @property
    def result(self) -> GenerationResult:
        answer = Answer(len(self.request.prompt.ids), records=False)
        for delta in self.deltas:
            answer.add(delta)
        return answer.result()


class Served:
    """A scheduler in this thread, and what it was asked."""

    def __init__(self, model: LoadedModel) -> None:
        self.model, self.scheduler = model, Scheduler(model)
        self.asked: list[Asked] = []

    def ask(self, request: Request, bounded: bool = False) -> Asked:
        outbox = Outbox(lambda: None, bounded)
        tokenizer = cast(Tokenizer, LetterTokenizer())
        generation = Generation(request, tokenizer, outbox, Metrics())
        asked = Asked(request, generation, outbox, [])
        self.scheduler.add(asked.generation)
        self.asked.append(asked)
        return asked

    def step(self) -> None:
        self.scheduler.step()
        for asked in self.asked:
            asked.drain()

    def finish(self) -> None:
        for _ in range(100_000):
            if not self.scheduler.has_work:
                break
            self.step()
        assert not self.scheduler.has_work
        for asked in self.asked:
            asked.drain()

    def alone(self, request: Request) -> GenerationResult:
        """The answer of a model that knows nothing else."""
        self.model.reset()
        served = Served(self.model)
        asked = served.ask(request)
        served.finish()
        assert asked.error is None
        return asked.result


def wanted(
    prompt: list[int], tokens: int = 10, seed: int | None = None, proposes: bool = False
) -> Request:
    sampling = SamplingSettings(temperature=0 if seed is None else 1)
    return Request(PromptTokens(prompt), Ending(tokens), sampling, seed, proposes=proposes)
