"""Generating one answer: generators stacked on generators.

:func:`token_steps` runs the model and samples; :func:`text_steps` turns its tokens into text;
:func:`generate` yields that text piece by piece, and then the result. They touch TVM and run in
the engine thread. Closing any of them between two steps cancels the generation and leaves the model
usable; its KV cache then holds what was fed so far.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.sampler import Sampler
from mlc_llm.tokenizer import Detokenizer
from mlc_llm.tokenizer.stop import StopText

FinishReason = Literal["stop", "length", "cancelled"]


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
    """A step of the generation: the text that became certain, often none.

    Args:
        text: what is new.
        tokens: how many tokens were generated so far.
    """

    text: str
    tokens: int


@dataclass(frozen=True)
class GenerationResult:
    """A whole answer.

    Args:
        text: its text.
        token_ids: its tokens, without the stop token, but with those of a stop string.
        finish_reason: ``stop`` for a stop token or string, ``length`` for the limit of tokens or
            the end of the context window, ``cancelled`` when nobody listened any more.
        prompt_tokens: how many tokens the prompt has.
        prefilled_tokens: how many of them were not in the KV cache yet.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    prefilled_tokens: int


@dataclass
class _Progress:
    """What a generation has produced so far, filled by the layers below."""

    prefilled: int = 0
    token_ids: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)


def generate(
    model: LoadedModel,
    prompt_ids: Sequence[int],
    sampler: Sampler,
    ending: Ending,
    detokenizer: Detokenizer,
) -> Generator[Delta | GenerationResult, None, None]:
    """Answer a prompt.

    Args:
        model: the model; what its KV cache holds of the prompt is not prefilled again.
        prompt_ids: the whole prompt.
        sampler: chooses the tokens; made for this answer.
        ending: when the answer ends.
        detokenizer: turns tokens into text; made for this answer.

    Yields:
        A :class:`Delta` for each prefilled chunk and for each token, then the
        :class:`GenerationResult`.

    Raises:
        PromptTooLongError: the prompt does not fit into the context window.
        TokenizerError: a token of the prompt is not in the model's vocabulary.
        GenerationError: the model failed.
    """
    progress = _Progress()
    tokens = token_steps(model, prompt_ids, sampler, ending, progress)
    reason = yield from text_steps(tokens, detokenizer, ending.stop_strings, progress)
    yield GenerationResult(
        text="".join(progress.pieces),
        token_ids=tuple(progress.token_ids),
        finish_reason=reason,
        prompt_tokens=len(prompt_ids),
        prefilled_tokens=progress.prefilled,
    )


def token_steps(
    model: LoadedModel,
    prompt_ids: Sequence[int],
    sampler: Sampler,
    ending: Ending,
    progress: _Progress,
) -> Generator[int | None, None, FinishReason]:
    """Prefill the prompt, then sample and decode token by token.

    Yields None after each prefilled chunk, then every token of the answer. Returns why it ended.
    """
    for count in model.feed_steps(prompt_ids):
        progress.prefilled += count
        yield None
    token = sampler.sample(model.logits)
    while token not in ending.stop_ids:
        progress.token_ids.append(token)
        yield token
        if len(progress.token_ids) >= ending.max_tokens:
            return "length"
        if model.length >= model.window.size:
            return "length"
        with model.metrics.decode.measure() as phase:
            token = sampler.sample(model.decode(token))
            phase.tokens += 1
    return "stop"


def text_steps(
    tokens: Generator[int | None, None, FinishReason],
    detokenizer: Detokenizer,
    stop_strings: Sequence[str],
    progress: _Progress,
) -> Generator[Delta, None, FinishReason]:
    """Turn tokens into text, up to a stop string. Returns why it ended."""
    stop = StopText(stop_strings)

    def show(text: str) -> Delta:
        progress.pieces.append(text)
        return Delta(text, len(progress.token_ids))

    try:
        while True:
            try:
                token = next(tokens)
            except StopIteration as end:
                reason: FinishReason = end.value
                break
            yield show("" if token is None else stop.push(detokenizer.push(token)))
            if stop.stopped:
                return "stop"
    finally:
        tokens.close()
    last = stop.push(detokenizer.finish())
    yield show(last + stop.finish())
    return "stop" if stop.stopped else reason
