"""Requests and replies in the form of OpenAI's API: what an engine takes, and what it gives.

The names and the fields are those of the package ``openai`` and of OpenAI's API reference
(https://platform.openai.com/docs/api-reference/chat and ``/completions``). A request has some
arguments besides; a reply has no field that OpenAI's has not.
"""

from mlc_llm.protocol.chat import (
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionLogprobs,
    ChatCompletionMessage,
    ChatCompletionTokenLogprob,
    ChoiceDelta,
    TopLogprob,
)
from mlc_llm.protocol.completion import Completion, CompletionChoice, CompletionLogprobs
from mlc_llm.protocol.reply import (
    CompletionUsage,
    FinishReason,
    PromptTokensDetails,
    Reply,
)
from mlc_llm.protocol.request import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
    StreamOptions,
)

__all__ = [
    "ChatCompletion",
    "ChatCompletionChoice",
    "ChatCompletionChunk",
    "ChatCompletionChunkChoice",
    "ChatCompletionLogprobs",
    "ChatCompletionMessage",
    "ChatCompletionRequest",
    "ChatCompletionTokenLogprob",
    "ChoiceDelta",
    "Completion",
    "CompletionChoice",
    "CompletionLogprobs",
    "CompletionRequest",
    "CompletionUsage",
    "FinishReason",
    "GenerationRequest",
    "PromptTokensDetails",
    "Reply",
    "StreamOptions",
    "TopLogprob",
]
