"""An answer: what ends it, the steps in which it is written, and what they add up to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlc_llm.runtime.logprobs import TokenLogprob

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
