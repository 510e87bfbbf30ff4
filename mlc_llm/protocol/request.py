"""Requests: OpenAI's arguments, and those that are added to them."""

from __future__ import annotations

import numbers
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainValidator,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from mlc_llm.config import GenerationConfig, Overlay
from mlc_llm.config.numbers import (
    MOST,
    Alternatives,
    Answers,
    Count,
    LogitBias,
    MinP,
    Natural,
    Penalty,
    RepetitionPenalty,
    Seed,
    Temperature,
    TokenIdKey,
    TopP,
)
from mlc_llm.errors import ConfigError


def _unsupported(reason: str, *neutral: object) -> BeforeValidator:
    """Refuse an argument, unless it asks for nothing.

    Args:
        reason: the sentence that says so, and what to do instead.
        neutral: values besides None that ask for nothing.
    """

    def check(value: Any) -> None:
        if value is not None and not any(
            type(value) is type(item) and value == item for item in neutral
        ):
            raise ConfigError(reason, code="argument-unsupported")

    return BeforeValidator(check)


_NO_TOOLS = "Calling tools is not supported: leave out tools, tool_choice and functions."
_NO_DEBUG = "debug_config is not supported: ignore_eos is an argument of its own."
_NO_BODY = (
    "extra_body belongs to OpenAI's client, which adds its fields to those of the request: give "
    "them as arguments."
)


class StreamOptions(Overlay):
    """How a reply is streamed.

    Args:
        include_usage: whether a last chunk says how many tokens the request took.
    """

    include_usage: StrictBool | None = None


class GenerationRequest(Overlay):
    """The arguments that all requests have; what is not given comes from the model's own files.

    Args:
        model: the model, as it was named when the engine was made; may be left out.
        stream: whether the reply comes in chunks.
        stream_options: how it does.
        n: how many answers to give, 1 to 128.
        temperature: 0 is greedy; larger is more random.
        top_p: the nucleus: the smallest set of tokens whose probability reaches it is kept.
        presence_penalty: taken once from the logits of tokens that the answer has, -2 to 2.
        frequency_penalty: taken from them as often as the answer has them, -2 to 2.
        logit_bias: added to the logits, by token id, which may be text as in JSON.
        max_tokens: most tokens of one answer.
        stop: strings that end the answer and are not part of it; one may be given as it is.
        seed: makes sampling reproducible; the answers after the first have the next ones.
        user: who asks, for the caller's own use; changes nothing.
        response_format: what the answers must look like, as in ``{"type": "json_object"}``; see
            :class:`mlc_llm.grammar.ResponseFormat`.
        top_k: not OpenAI's: how many of the likeliest tokens are kept; 0 keeps all.
        min_p: not OpenAI's: least probability kept, as a share of the likeliest token's.
        repetition_penalty: not OpenAI's: weakens tokens of prompt and answer by that factor.
        ignore_eos: not OpenAI's: whether the tokens and strings that end an answer by the model's
            own files do not; those of ``stop`` still do.
        request_id: not OpenAI's: the request's id, by which it can be aborted; by default one is
            made.
        debug_config: MLC LLM's; not supported.
        extra_body: of OpenAI's client; not supported.
    """

    model: str | None = None
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    n: Answers | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[TokenIdKey, LogitBias] | None = None
    max_tokens: Count | None = None
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    seed: Seed | None = None
    user: str | None = None
    response_format: Any = None
    top_k: Natural | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    ignore_eos: StrictBool | None = None
    request_id: Annotated[str, Field(min_length=1)] | None = None
    debug_config: Annotated[None, _unsupported(_NO_DEBUG, {})] = None
    extra_body: Annotated[None, _unsupported(_NO_BODY, {})] = None

    @property
    @abstractmethod
    def alternatives(self) -> int | None:
        """How many likely tokens to record in each place; None for no log-probabilities."""

    @property
    def most_tokens(self) -> int | None:
        """Most tokens of an answer; None where the request does not say."""
        return self.max_tokens

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def generation(self) -> GenerationConfig:
        """What is asked of the generation, as an overlay of the model's own settings."""
        same = GenerationConfig.model_fields.keys() & GenerationRequest.model_fields.keys()
        values = {name: getattr(self, name) for name in same}
        return GenerationConfig(**values, max_gen_len=self.most_tokens, logprobs=self.alternatives)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_string(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is for a stream: set stream=True, or leave it out")
        return self

    @classmethod
    def _failure(cls, error: ValidationError) -> ConfigError:
        causes = (item.get("ctx", {}).get("error") for item in error.errors())
        unsupported = (c for c in causes if getattr(c, "code", "") == "argument-unsupported")
        return next(unsupported, None) or super()._failure(error)


class ChatCompletionRequest(GenerationRequest):
    """A conversation to answer: the arguments of ``chat.completions.create``.

    Args:
        messages: all of the conversation, in OpenAI's form: mappings or objects with ``role`` and
            ``content``, which is text or a list of text parts.
        max_completion_tokens: OpenAI's newer name of ``max_tokens``.
        logprobs: whether to give the log-probabilities of the answers' tokens.
        top_logprobs: how many likely tokens to give in each place, 0 to 20; needs ``logprobs``.
        tools: not supported.
        tool_choice: not supported.
        parallel_tool_calls: changes nothing where there are no tools.
        functions: not supported.
        function_call: not supported.
    """

    messages: list[Any]
    max_completion_tokens: Count | None = None
    logprobs: StrictBool | None = None
    top_logprobs: Alternatives | None = None
    tools: Annotated[None, _unsupported(_NO_TOOLS, [])] = None
    tool_choice: Annotated[None, _unsupported(_NO_TOOLS, "none")] = None
    parallel_tool_calls: StrictBool | None = None
    functions: Annotated[None, _unsupported(_NO_TOOLS, [])] = None
    function_call: Annotated[None, _unsupported(_NO_TOOLS, "none")] = None

    @property
    def alternatives(self) -> int | None:
        """See :class:`GenerationRequest`."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def most_tokens(self) -> int | None:
        """See :class:`GenerationRequest`."""
        newer = self.max_completion_tokens
        return self.max_tokens if newer is None else newer

    @model_validator(mode="after")
    def _agreement(self) -> ChatCompletionRequest:
        older, newer = self.max_tokens, self.max_completion_tokens
        if older is not None and newer is not None and older != newer:
            raise ValueError(
                f"max_tokens ({older}) and max_completion_tokens ({newer}) are two names of one "
                "argument: give one of them"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=True")
        return self


def _prompt(value: Any) -> str | list[int]:
    """A prompt: a text, or token ids."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and any(isinstance(i, str | list | tuple) for i in value):
        raise ValueError("must be one prompt, a text or a list of token ids: ask for each alone")
    if not isinstance(value, Sequence) or not all(map(_is_token_id, value)):
        raise ValueError("must be a text or a list of token ids, whole numbers of at least 0")
    return [int(token_id) for token_id in value]


def _is_token_id(value: Any) -> bool:
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_whole and 0 <= int(value) <= MOST


class CompletionRequest(GenerationRequest):
    """Raw text to go on with: the arguments of ``completions.create``. No template is applied.

    Args:
        prompt: the text, or its token ids. A text begins with the tokenizer's BOS, if it has one;
            token ids are taken as they are.
        logprobs: how many likely tokens to give in each place, with the log-probabilities of the
            answers' tokens.
        echo: not supported.
        suffix: not supported.
        best_of: not supported.
    """

    prompt: Annotated[str | list[int], PlainValidator(_prompt)]
    logprobs: Alternatives | None = None
    echo: Annotated[
        None, _unsupported("echo is not supported: put the prompt before the answer.", False)
    ] = None
    suffix: Annotated[
        None,
        _unsupported("suffix is not supported: a model here continues text, it fills no gap.", ""),
    ] = None
    best_of: Annotated[
        None,
        _unsupported("best_of is not supported: ask for n answers and choose among them.", 1),
    ] = None

    @property
    def alternatives(self) -> int | None:
        """See :class:`GenerationRequest`."""
        return self.logprobs
