"""What the replies to all requests have in common."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

FinishReason = Literal["stop", "length", "abort"]
"""Why an answer ended: ``stop`` for a stop token or string, ``length`` where it was cut, ``abort``
where its request was aborted. OpenAI has no word for the last one; vLLM and MLC LLM have this."""


class Reply(BaseModel):
    """Base of the replies and of their parts.

    OpenAI's JSON has null for some fields that have no value, and leaves others out. Here a field
    that is None is left out of a dump unless it was set to None.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_serializer(mode="wrap")
    def _without_unset(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        data = serialize(self)
        kept = self.model_fields_set
        return {name: value for name, value in data.items() if value is not None or name in kept}


class PromptTokensDetails(Reply):
    """What is known of a prompt's tokens.

    Args:
        cached_tokens: how many did not have to be read again.
    """

    cached_tokens: int


class CompletionUsage(Reply):
    """How many tokens a request took.

    Args:
        prompt_tokens: those of the prompt, once, however many answers it got.
        completion_tokens: those of all answers.
        total_tokens: the sum.
        prompt_tokens_details: what is known of the prompt's.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
