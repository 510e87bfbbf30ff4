"""Replies, made of the steps of the answers: whole, or in chunks as the steps come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mlc_llm.engine.logprobs import TokenNames, chat_logprobs, completion_logprobs
from mlc_llm.engine.running_request import Step
from mlc_llm.protocol import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionLogprobs,
    ChatCompletionMessage,
    ChoiceDelta,
    Completion,
    CompletionChoice,
    CompletionLogprobs,
    CompletionUsage,
    FinishReason,
    PromptTokensDetails,
)
from mlc_llm.runtime import answer
from mlc_llm.runtime.logprobs import TokenLogprob
from mlc_llm.runtime.request import Request
from mlc_llm.tokenizer import Detokenizer, Tokenizer

Whole = TypeVar("Whole")
Chunk = TypeVar("Chunk")

_REASONS: dict[answer.FinishReason, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "cancelled": "abort",
}


@dataclass(frozen=True)
class Heading:
    """What all chunks of a reply have in common.

    Args:
        id: the request's id.
        created: when the request came, in seconds since 1970.
        model: the model's name.
        system_fingerprint: names what answers.
    """

    id: str
    created: int
    model: str
    system_fingerprint: str

    def fields(self) -> dict[str, Any]:
        """The fields by name."""
        return dict(vars(self))


class _Written:
    """One answer as far as it was written.

    Args:
        request: what was asked.
        detokenizer: turns its tokens into text once more, to tell where each begins.
    """

    def __init__(self, request: Request, detokenizer: Detokenizer) -> None:
        self.records = request.logprobs is not None
        self.begun = False
        self._answer = answer.Answer(len(request.prompt.ids), self.records)
        self._detokenizer = detokenizer
        self._length = 0
        self._logprobs: list[TokenLogprob] = []
        self._offsets: list[int] = []

    def add(self, delta: answer.Delta) -> None:
        """Take the next step."""
        self._answer.add(delta)
        for logprob in delta.logprobs:
            self._logprobs.append(logprob)
            self._offsets.append(self._length)
            self._length += len(self._detokenizer.push(logprob.token_id))

    def result(self) -> answer.GenerationResult:
        """The answer so far."""
        return self._answer.result()

    def take_logprobs(self) -> tuple[list[TokenLogprob], list[int]]:
        """The log-probabilities that were not taken yet, and where their tokens begin."""
        taken = self._logprobs, self._offsets
        self._logprobs, self._offsets = [], []
        return taken


class Replies(ABC, Generic[Whole, Chunk]):
    """Makes the reply to one request of the steps of its answers.

    Args:
        heading: what the reply begins with.
        requests: what was asked of the model, once an answer.
        tokenizer: the model's.
        includes_usage: whether a last chunk has the usage.
        finished: is told of each answer that came to its end.
    """

    def __init__(
        self,
        heading: Heading,
        requests: Sequence[Request],
        tokenizer: Tokenizer,
        includes_usage: bool,
        finished: Callable[[answer.GenerationResult], object] | None = None,
    ) -> None:
        self._heading = heading
        self._names = TokenNames(tokenizer)
        self._includes_usage = includes_usage
        self._finished = finished
        self._answers = [
            _Written(request, tokenizer.stream(continues=request.continues)) for request in requests
        ]

    def add(self, step: Step) -> None:
        """Take the next step of an answer."""
        written, reason = self._answers[step.index], step.delta.finish_reason
        written.add(step.delta)
        if self._finished is not None and reason not in (None, "cancelled"):
            self._finished(written.result())

    def chunks(self, step: Step) -> Iterator[Chunk]:
        """Take the next step of an answer, and give the chunks that it makes."""
        written, delta = self._answers[step.index], step.delta
        if not written.begun:
            written.begun = True
            yield from self._first(step.index)
        self.add(step)
        if delta.text:
            yield self._part(step.index, delta.text, None)
        if delta.finish_reason is not None:
            yield self._part(step.index, None, _REASONS[delta.finish_reason])

    def last(self) -> Iterator[Chunk]:
        """The chunks after those of the answers."""
        if self._includes_usage:
            yield self._with_usage()

    def usage(self) -> CompletionUsage:
        """The tokens that the request took."""
        results = [written.result() for written in self._answers]
        prompt, answers = results[0].prompt_tokens, sum(len(r.token_ids) for r in results)
        return CompletionUsage(
            prompt_tokens=prompt,
            completion_tokens=answers,
            total_tokens=prompt + answers,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=min(map(_cached, results))),
        )

    @abstractmethod
    def whole(self) -> Whole:
        """The reply, when all answers have ended."""

    @abstractmethod
    def _first(self, index: int) -> Iterator[Chunk]:
        """What begins an answer."""

    @abstractmethod
    def _part(self, index: int, text: str | None, reason: FinishReason | None) -> Chunk:
        """A part of an answer: its new text, or its end."""

    @abstractmethod
    def _with_usage(self) -> Chunk:
        """The chunk that has the usage."""

    def _common(self) -> dict[str, Any]:
        """The fields that every chunk has."""
        return self._heading.fields() | ({"usage": None} if self._includes_usage else {})


def _cached(result: answer.GenerationResult) -> int:
    """How many of the prompt's tokens were in the cache; none where none was written."""
    begun = bool(result.token_ids) or result.finish_reason != "cancelled"
    return max(0, result.prompt_tokens - result.prefilled_tokens) if begun else 0


class ChatReplies(Replies[ChatCompletion, ChatCompletionChunk]):
    """Replies to a conversation."""

    def whole(self) -> ChatCompletion:
        """See :class:`Replies`."""
        choices = []
        for index, written in enumerate(self._answers):
            result = written.result()
            choices.append(
                ChatCompletionChoice(
                    index=index,
                    message=ChatCompletionMessage(content=result.text, refusal=None),
                    logprobs=self._logprobs(written, whole=True),
                    finish_reason=_REASONS[result.finish_reason],
                )
            )
        return ChatCompletion(**self._heading.fields(), choices=choices, usage=self.usage())

    def _first(self, index: int) -> Iterator[ChatCompletionChunk]:
        yield self._chunk(index, ChoiceDelta(role="assistant", content=""), None, None)

    def _part(
        self, index: int, text: str | None, reason: FinishReason | None
    ) -> ChatCompletionChunk:
        delta = ChoiceDelta() if text is None else ChoiceDelta(content=text)
        return self._chunk(index, delta, self._logprobs(self._answers[index]), reason)

    def _chunk(
        self,
        index: int,
        delta: ChoiceDelta,
        logprobs: ChatCompletionLogprobs | None,
        reason: FinishReason | None,
    ) -> ChatCompletionChunk:
        choice = ChatCompletionChunkChoice(
            index=index, delta=delta, logprobs=logprobs, finish_reason=reason
        )
        return ChatCompletionChunk(**self._common(), choices=[choice])

    def _with_usage(self) -> ChatCompletionChunk:
        return ChatCompletionChunk(**self._heading.fields(), choices=[], usage=self.usage())

    def _logprobs(self, written: _Written, whole: bool = False) -> ChatCompletionLogprobs | None:
        tokens, _ = written.take_logprobs()
        recorded = written.records and (whole or tokens)
        return chat_logprobs(tokens, self._names) if recorded else None


class TextReplies(Replies[Completion, Completion]):
    """Replies to raw text."""

    def whole(self) -> Completion:
        """See :class:`Replies`."""
        choices = []
        for index, written in enumerate(self._answers):
            result = written.result()
            choices.append(
                CompletionChoice(
                    index=index,
                    text=result.text,
                    logprobs=self._logprobs(written, whole=True),
                    finish_reason=_REASONS[result.finish_reason],
                )
            )
        return Completion(**self._heading.fields(), choices=choices, usage=self.usage())

    def _first(self, index: int) -> Iterator[Completion]:
        return iter(())

    def _part(self, index: int, text: str | None, reason: FinishReason | None) -> Completion:
        choice = CompletionChoice(
            index=index,
            text=text or "",
            logprobs=self._logprobs(self._answers[index]),
            finish_reason=reason,
        )
        return Completion(**self._common(), choices=[choice])

    def _with_usage(self) -> Completion:
        return Completion(**self._heading.fields(), choices=[], usage=self.usage())

    def _logprobs(self, written: _Written, whole: bool = False) -> CompletionLogprobs | None:
        tokens, offsets = written.take_logprobs()
        recorded = written.records and (whole or tokens)
        return completion_logprobs(tokens, offsets, self._names) if recorded else None
