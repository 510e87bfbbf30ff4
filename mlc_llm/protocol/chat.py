"""Replies to a conversation: ``chat.completion``, and its chunks where it is streamed."""

from __future__ import annotations

from typing import Literal

from mlc_llm.protocol.reply import CompletionUsage, FinishReason, Reply


class TopLogprob(Reply):
    """A token that was likely in some place.

    Args:
        token: its text; a control token's name.
        bytes: its bytes in UTF-8, perhaps of a part of a character; None for a control token.
        logprob: the natural logarithm of its probability.
    """

    token: str
    bytes: list[int] | None
    logprob: float


class ChatCompletionTokenLogprob(TopLogprob):
    """A token of an answer.

    Args:
        top_logprobs: the likeliest tokens in its place, the likeliest first.
    """

    top_logprobs: list[TopLogprob]


class ChatCompletionLogprobs(Reply):
    """The log-probabilities of an answer's tokens.

    Args:
        content: the tokens.
        refusal: those of a refusal, of which models here have none of their own.
    """

    content: list[ChatCompletionTokenLogprob]
    refusal: None


class ChatCompletionMessage(Reply):
    """An answer.

    Args:
        role: who speaks.
        content: the text.
        refusal: None always: a model here has no channel of its own to refuse in.
    """

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None


class ChatCompletionChoice(Reply):
    """One of the answers to a request.

    Args:
        index: which one, from 0.
        message: the answer.
        logprobs: the log-probabilities of its tokens; None where they were not asked for.
        finish_reason: why it ended.
    """

    index: int
    message: ChatCompletionMessage
    logprobs: ChatCompletionLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Reply):
    """The answers to a conversation.

    Args:
        id: the request's id.
        object: what this is.
        created: when the request came, in seconds since 1970.
        model: the model's name, as the request has it.
        choices: the answers.
        usage: the tokens that it took.
        system_fingerprint: names the model, its library and the device; with the same one and the
            same ``seed``, the same request has the same answers.
    """

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatCompletionChoice]
    usage: CompletionUsage
    system_fingerprint: str


class ChoiceDelta(Reply):
    """What a chunk adds to an answer.

    Args:
        role: who speaks; in the first chunk of an answer alone.
        content: the text that is new; left out of the last chunk.
    """

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatCompletionChunkChoice(Reply):
    """A part of one of the answers to a request.

    Args:
        index: which answer, from 0.
        delta: what is new.
        logprobs: the log-probabilities of the tokens that are new; None where they were not asked
            for, and where there are none.
        finish_reason: why the answer ended; None while it goes on.
    """

    index: int
    delta: ChoiceDelta
    logprobs: ChatCompletionLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Reply):
    """A part of the answers to a conversation.

    Args:
        id: the request's id, the same in all chunks.
        object: what this is.
        created: when the request came, in seconds since 1970.
        model: the model's name, as the request has it.
        system_fingerprint: as in :class:`ChatCompletion`.
        choices: a part of one answer; empty in the chunk that has the usage.
        usage: only with ``stream_options={"include_usage": True}``: the tokens that the request
            took, in a last chunk; None in those before.
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatCompletionChunkChoice]
    usage: CompletionUsage | None = None
