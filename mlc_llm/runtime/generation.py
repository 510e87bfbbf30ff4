"""Generating one answer: a generator on top of a generator.

:func:`token_steps` runs the model and samples; :func:`generate` turns its tokens into text. Both
touch TVM and run in the engine thread; :class:`Answer` adds the steps up, in any thread. Closing
either of them between two steps cancels the generation and leaves the model usable; its KV cache
then holds what was fed so far.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from mlc_llm.tokenizer import Detokenizer, PromptTokens
from mlc_llm.tokenizer.stop import StopText

if TYPE_CHECKING:
    from mlc_llm.runtime.loaded_model import LoadedModel
    from mlc_llm.runtime.logprobs import LogprobRecorder, TokenLogprob
    from mlc_llm.runtime.sampler import Sampler

FinishReason = Literal["stop", "length", "cancelled"]

Limit = Literal["max_gen_len", "context_window"]
"""What cuts an answer: the most tokens that it may have, or the end of the context window."""


@dataclass(frozen=True)
class Ending:
    """When an answer ends.

    Args:
        max_tokens: most tokens of the answer; at least 1.
        stop_ids: tokens that end it and are not part of it.
        stop_strings: strings that end it and are not part of it.
    """

    max_tokens: int
    stop_ids: frozenset[int] = frozenset()
    stop_strings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Delta:
    """A step of the generation.

    Args:
        text: the text that became certain, often none.
        token_ids: the token that was generated, if one was.
        logprobs: its log-probabilities, if they are recorded.
        prefilled: how many tokens of the prompt were prefilled.
        finish_reason: why the answer ended; set in the last step alone.
        limit: what cut it, where that is ``length``.
    """

    text: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prefilled: int = 0
    finish_reason: FinishReason | None = None
    limit: Limit | None = None


@dataclass(frozen=True)
class GenerationResult:
    """A whole answer.

    Args:
        text: its text.
        token_ids: its tokens, without the stop token, but with those of a stop string.
        finish_reason: ``stop`` for a stop token or string, ``length`` when it was cut,
            ``cancelled`` when it was broken off by the user.
        prompt_tokens: how many tokens the prompt has.
        prefilled_tokens: how many of them were not in the KV cache yet.
        logprobs: each token's log-probabilities; None where they were not asked for.
        limit: what cut it: ``max_gen_len`` or ``context_window``; None where it was not cut.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    prefilled_tokens: int
    logprobs: tuple[TokenLogprob, ...] | None = None
    limit: Limit | None = None


class Answer:
    """An answer that grows, the sum of its steps; it is ``cancelled`` until its last one.

    Args:
        prompt_tokens: how many tokens the prompt has.
        records: whether the steps have log-probabilities.
    """

    def __init__(self, prompt_tokens: int, records: bool) -> None:
        self._prompt_tokens = prompt_tokens
        self._finish_reason: FinishReason = "cancelled"
        self._limit: Limit | None = None
        self._prefilled = 0
        self._pieces: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] | None = [] if records else None

    def add(self, delta: Delta) -> None:
        """Take the next step."""
        self._pieces.append(delta.text)
        self._token_ids += delta.token_ids
        self._prefilled += delta.prefilled
        if self._logprobs is not None:
            self._logprobs += delta.logprobs
        if delta.finish_reason is not None:
            self._finish_reason, self._limit = delta.finish_reason, delta.limit

    def result(self) -> GenerationResult:
        """The answer as far as it has grown."""
        return GenerationResult(
            text="".join(self._pieces),
            token_ids=tuple(self._token_ids),
            finish_reason=self._finish_reason,
            prompt_tokens=self._prompt_tokens,
            prefilled_tokens=self._prefilled,
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
            limit=self._limit,
        )


def generate(
    model: LoadedModel,
    prompt: PromptTokens,
    sampler: Sampler,
    ending: Ending,
    detokenizer: Detokenizer,
    recorder: LogprobRecorder | None = None,
) -> Generator[Delta, None, None]:
    """Answer a prompt.

    Args:
        model: the model; what its KV cache holds of the prompt is not prefilled again.
        prompt: the whole prompt.
        sampler: chooses the tokens; made for this answer.
        ending: when the answer ends.
        detokenizer: turns tokens into text; made for this answer.
        recorder: gives the log-probabilities of the tokens; None for none to be recorded.

    Yields:
        A :class:`Delta` for each prefilled chunk and for each token, then one with the text that
        was held back, if any, and the ``finish_reason``. A stop string ends the answer in the step
        of the token that completes it.

    Raises:
        PromptTooLongError: the prompt does not fit into the context window.
        TokenizerError: a token of the prompt is not in the model's vocabulary.
        GenerationError: the model failed.
    """
    stop = StopText(ending.stop_strings)
    with closing(token_steps(model, prompt, sampler, ending, recorder)) as steps:
        for step in steps:
            text = "".join(stop.push(detokenizer.push(token)) for token in step.token_ids)
            if step.finish_reason is not None:
                text = stop.push(detokenizer.finish()) + stop.finish()
            if stop.stopped:
                yield replace(step, text=text, finish_reason="stop", limit=None)
                return
            yield replace(step, text=text)


def token_steps(
    model: LoadedModel,
    prompt: PromptTokens,
    sampler: Sampler,
    ending: Ending,
    recorder: LogprobRecorder | None = None,
) -> Generator[Delta, None, None]:
    """Prefill the prompt, then sample and decode token by token.

    Yields a step after each prefilled chunk, one for each token, and one that says why it ended.
    """
    begin = time.perf_counter()
    for count in model.feed_steps(prompt.ids, prompt.generated):
        yield Delta(prefilled=count)
    token = sampler.sample(model.logits)
    model.metrics.time_to_first_token = time.perf_counter() - begin
    generated = 0
    limit: Limit | None = None
    while token not in ending.stop_ids:
        recorded = () if recorder is None else (recorder.record(model.logits, token),)
        yield Delta(token_ids=(token,), logprobs=recorded)
        generated += 1
        if generated >= ending.max_tokens:
            limit = "max_gen_len"
        elif model.length >= model.window.size:
            limit = "context_window"
        if limit is not None:
            break
        with model.metrics.decode.measure() as phase:
            token = sampler.sample(model.decode(token))
            phase.tokens += 1
    yield Delta(finish_reason="stop" if limit is None else "length", limit=limit)
