"""The fields of replies are OpenAI's, and a dump has them where OpenAI's JSON has."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import completion, completion_choice, completion_usage
from openai.types.chat import (
    chat_completion,
    chat_completion_chunk,
    chat_completion_message,
    chat_completion_token_logprob,
)

from mlc_llm import protocol
from mlc_llm.protocol import ChatCompletionChunk, ChoiceDelta, Reply

SAME = {
    protocol.ChatCompletion: chat_completion.ChatCompletion,
    protocol.ChatCompletionChoice: chat_completion.Choice,
    protocol.ChatCompletionLogprobs: chat_completion.ChoiceLogprobs,
    protocol.ChatCompletionMessage: chat_completion_message.ChatCompletionMessage,
    protocol.ChatCompletionTokenLogprob: (chat_completion_token_logprob.ChatCompletionTokenLogprob),
    protocol.TopLogprob: chat_completion_token_logprob.TopLogprob,
    protocol.ChatCompletionChunk: chat_completion_chunk.ChatCompletionChunk,
    protocol.ChatCompletionChunkChoice: chat_completion_chunk.Choice,
    protocol.ChoiceDelta: chat_completion_chunk.ChoiceDelta,
    protocol.Completion: completion.Completion,
    protocol.CompletionChoice: completion_choice.CompletionChoice,
    protocol.CompletionLogprobs: completion_choice.Logprobs,
    protocol.CompletionUsage: completion_usage.CompletionUsage,
    protocol.PromptTokensDetails: completion_usage.PromptTokensDetails,
}


def kinds() -> list[type[Reply]]:
    values = (getattr(protocol, name) for name in protocol.__all__)
    return [v for v in values if isinstance(v, type) and issubclass(v, Reply) and v is not Reply]


def test_each_kind_is_compared() -> None:
    assert set(kinds()) == set(SAME)


@pytest.mark.parametrize("ours", kinds(), ids=lambda kind: kind.__name__)
def test_the_fields_are_openais(ours: Any) -> None:
    theirs: Any = SAME[ours].model_fields
    assert set(ours.model_fields) <= set(theirs)
    needed = {name for name, field in theirs.items() if field.is_required()}
    assert needed <= set(ours.model_fields)


def test_what_is_none_is_left_out_unless_it_was_set() -> None:
    assert ChoiceDelta().model_dump() == {}
    assert ChoiceDelta(content="").model_dump() == {"content": ""}
    assert ChoiceDelta(role=None).model_dump() == {"role": None}
    fields: dict[str, Any] = {
        "id": "x",
        "created": 1,
        "model": "m",
        "system_fingerprint": "f",
        "choices": [],
    }
    assert "usage" not in ChatCompletionChunk(**fields).model_dump()
    assert '"usage":null' in ChatCompletionChunk(**fields, usage=None).model_dump_json()
    assert '"object":"chat.completion.chunk"' in ChatCompletionChunk(**fields).model_dump_json()
