"""Replies to raw text: ``text_completion``, whole or in chunks."""

from __future__ import annotations

from typing import Literal

from mlc_llm.protocol.reply import CompletionUsage, FinishReason, Reply


class CompletionLogprobs(Reply):
    """The log-probabilities of a text's tokens, one entry a token in each list.

    Args:
        tokens: their texts; a control token's name.
        token_logprobs: the natural logarithms of their probabilities.
        top_logprobs: the likeliest tokens in each place, and the one that was chosen, by their
            texts. Of tokens with one text, as of parts of characters, the likeliest is there.
        text_offset: where each begins in the answer's text; that of a part of a character is
            where the character begins.
    """

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Reply):
    """One of the answers to a request, or a part of one.

    Args:
        index: which one, from 0.
        text: its text, or what is new of it.
        logprobs: the log-probabilities of the tokens; None where they were not asked for, and in a
            part without tokens.
        finish_reason: why it ended; None while it goes on.
    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None


class Completion(Reply):
    """The answers to raw text, or a part of them.

    Args:
        id: the request's id.
        object: what this is.
        created: when the request came, in seconds since 1970.
        model: the model's name, as the request has it.
        system_fingerprint: as in :class:`~mlc_llm.protocol.ChatCompletion`.
        choices: the answers; in a chunk a part of one, or none beside the usage.
        usage: the tokens that it took. In chunks as in
            :class:`~mlc_llm.protocol.ChatCompletionChunk`.
    """

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: CompletionUsage | None = None
