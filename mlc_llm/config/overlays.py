"""The user's configuration objects, which are laid over what a model's own files say."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlc_llm.config.explain import UNKNOWN_FIELD, explain
from mlc_llm.config.numbers import (
    Alternatives,
    Count,
    FillFactor,
    LogitBias,
    MinP,
    Natural,
    Penalty,
    RepetitionPenalty,
    Seed,
    Sink,
    Temperature,
    Threads,
    TokenId,
    TokenIdKey,
    TopP,
    WindowSize,
)
from mlc_llm.errors import ConfigError, unknown
from mlc_llm.files import is_nested_deeper
from mlc_llm.shown import shown

OLDER_SPELLINGS = {
    "system": "system_message",
    "stop_tokens": "stop_token_ids",
    "prefix_tokens": "system_prefix_token_ids",
    "role_msg_sep": "role_content_sep",
}
"""Names that fields of a conversation template had in MLC LLM before, and their names now."""


class Overlay(BaseModel):
    """Base of the user's configuration objects.

    Every field is optional, and None means that it is not set. An unknown field, and a value of
    the wrong kind or out of its range, raises :class:`~mlc_llm.errors.ConfigError`, at assignment
    just as at construction.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_assignment=True)

    older_spellings: ClassVar[Mapping[str, str]] = {}

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise self._failure(error) from None

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            super().__setattr__(self.older_spellings.get(name, name), value)
        except ValidationError as error:
            raise self._failure(error) from None

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return list(self.overrides().items())

    def overrides(self) -> dict[str, Any]:
        """The fields that the user set, by name; nested overlays stay objects."""
        values = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def _failure(cls, error: ValidationError) -> ConfigError:
        message = explain(error, cls.__name__, [*cls.model_fields, *cls.older_spellings])
        if all(_is_of_an_unknown_field(item) for item in error.errors()):
            return ConfigError(message, code="field-unknown")
        return ConfigError(message)


def _is_of_an_unknown_field(item: Any) -> bool:
    """Whether what pydantic found is a field that there is not, of the object or of one inside."""
    inner = item.get("ctx", {}).get("error")
    return item["type"] in UNKNOWN_FIELD or getattr(inner, "code", "") == "field-unknown"


class ConvConfig(Overlay):
    """Overrides of a conversation template's fields, which ``ConversationTemplate`` describes.

    ``roles`` and ``role_templates`` change the roles that they name and leave the others.

    The older spellings ``system``, ``stop_tokens``, ``prefix_tokens`` and ``role_msg_sep`` are
    accepted; ``offset`` and ``separator_style`` are accepted and mean nothing any more.

    Args:
        add_bos: whether the prompt begins with the tokenizer's BOS, which is never given twice; by
            default as ``system_prefix_token_ids`` says.
        stop_str: strings that end an answer; one may be given as it is.
        chat_template_kwargs: variables of the model's own template, such as ``enable_thinking``,
            ``tools`` and ``documents``; named templates have none.
    """

    older_spellings: ClassVar[Mapping[str, str]] = OLDER_SPELLINGS

    name: str | None = None
    system_template: str | None = None
    system_message: str | None = None
    system_prefix_token_ids: list[TokenId] | None = None
    add_role_after_system_message: bool | None = None
    roles: dict[str, str] | None = None
    role_templates: dict[str, str] | None = None
    messages: list[tuple[str, str]] | None = None
    seps: Annotated[list[str], Field(min_length=1, max_length=2)] | None = None
    role_content_sep: str | None = None
    role_empty_sep: str | None = None
    stop_str: list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    function_string: str | None = None
    use_function_calling: bool | None = None
    strip_reasoning_in_history: bool | None = None
    add_bos: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    offset: int | None = None
    separator_style: int | str | None = None

    @model_validator(mode="before")
    @classmethod
    def _translate(cls, data: Any) -> Any:
        return translate_older_spellings(data) if isinstance(data, Mapping) else data

    @field_validator("stop_str", mode="before")
    @classmethod
    def _one_stop_string(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def translate_older_spellings(data: Mapping[str, Any]) -> dict[str, Any]:
    """A template's fields under the names that they have now.

    Raises:
        ValueError: a field is given under both names.
    """
    translated = dict(data)
    for old, new in OLDER_SPELLINGS.items():
        value = translated.pop(old, None)
        if value is None:
            continue
        if translated.get(new) is not None:
            raise ValueError(f"{old!r} and {new!r} are the same field; give one of them")
        translated[new] = value
    return translated


def template_fields() -> frozenset[str]:
    """Every name that a field of a named template may have."""
    fields = {*ConvConfig.model_fields, *OLDER_SPELLINGS, "has_memory"}
    return frozenset(fields - {"chat_template_kwargs"})


class ChatConfig(Overlay):
    """Overrides of the fields of ``mlc-chat-config.json``.

    Args:
        model_lib: the compiled library to use.
        local_id: a name of the user's own; nothing depends on it.
        conv_template: a template's name, or the template itself as a JSON object.
        temperature: 0 is greedy; larger is more random.
        presence_penalty: taken once from the logits of tokens that the answer has, -2 to 2.
        frequency_penalty: taken from them as often as the answer has them, -2 to 2.
        repetition_penalty: weakens tokens of prompt and answer by that factor; 1 for none.
        top_p: the nucleus: the smallest set of tokens whose probability reaches it is kept.
        mean_gen_len: tokens that an answer is expected to need when old turns are dropped.
        max_gen_len: most tokens of one answer.
        shift_fill_factor: share of the window that stays filled when old turns are dropped.
        tokenizer_files: the tokenizer's files in the model folder.
        conv_config: overrides of the conversation template's fields.
        model_category: the model's family; nothing depends on it.
        model_name: the model's name; nothing depends on it.
        tensor_parallel_shards: devices that share the model; only 1 is supported.
        use_presharded_weights: whether the weights are split for them; nothing depends on it.
        context_window_size: tokens that the conversation may hold; -1 for no limit.
        sliding_window_size: tokens that attention looks back; -1 for all.
        prefill_chunk_size: most tokens that one prefill step takes.
        attention_sink_size: first tokens that a sliding window keeps; -1 for the model's own.
        max_batch_size: most sequences that are generated at once.
        num_threads: threads of the CPU; by default see :mod:`mlc_llm.runtime.threads`.
        opt: compilation options, such as ``"activations=a8"``.
        deterministic: compute prompts the same way as answers, so that an answer does not depend on
            whether earlier ones were generated here or came back as messages; slower in the
            prefill.
    """

    model_lib: str | None = None
    local_id: str | None = None
    conv_template: str | dict[str, Any] | None = None
    temperature: Temperature | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: RepetitionPenalty | None = None
    top_p: TopP | None = None
    mean_gen_len: Count | None = None
    max_gen_len: Count | None = None
    shift_fill_factor: FillFactor | None = None
    tokenizer_files: list[str] | None = None
    conv_config: ConvConfig | None = None
    model_category: str | None = None
    model_name: str | None = None
    tensor_parallel_shards: Literal[1] | None = None
    use_presharded_weights: bool | None = None
    context_window_size: WindowSize | None = None
    sliding_window_size: WindowSize | None = None
    prefill_chunk_size: WindowSize | None = None
    attention_sink_size: Sink | None = None
    max_batch_size: Count | None = None
    num_threads: Threads | None = None
    opt: str | None = None
    deterministic: bool | None = None

    @field_validator("conv_config", mode="before")
    @classmethod
    def _named_fields(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not all(isinstance(name, str) for name in value):
            raise ValueError("must be a ConvConfig or a mapping of its fields by name")
        return value

    @field_validator("conv_template", mode="before")
    @classmethod
    def _own_template(cls, value: Any) -> Any:
        """A copy of a template that is given as a mapping or as a ``ConversationTemplate``."""
        if value is None or isinstance(value, str):
            return value
        data = value.model_dump() if isinstance(value, BaseModel) else value
        if not isinstance(data, Mapping):
            raise ValueError("must be a template's name or a mapping of its fields")
        if is_nested_deeper(data):
            raise ValueError("must not be nested so deeply")
        for name in data:
            if not isinstance(name, str) or name not in template_fields():
                message = unknown("conv_template field", name, template_fields())
                raise ConfigError(message, code="field-unknown")
        return copy.deepcopy(dict(data))


class GenerationConfig(Overlay):
    """How one answer is generated; what is not set comes from the chat's own configuration.

    Args:
        temperature: 0 is greedy; larger is more random.
        top_p: the nucleus: the smallest set of tokens whose probability reaches it is kept.
        top_k: how many of the likeliest tokens are kept; 0 keeps all.
        min_p: least probability kept, as a share of the likeliest token's.
        repetition_penalty: weakens tokens of prompt and answer by that factor; 1 for none.
        presence_penalty: taken once from the logits of tokens that the answer has, -2 to 2.
        frequency_penalty: taken from them as often as the answer has them, -2 to 2.
        mean_gen_len: tokens that an answer is expected to need when old turns are dropped.
        max_gen_len: most tokens of one answer.
        n: how many answers to give, each from the same history.
        stop: strings that end the answer and are not part of it.
        seed: makes sampling reproducible.
        logit_bias: added to the logits, by token id.
        logprobs: record each token's log-probability, and those of that many likeliest ones.
        continue_final_message: the last message of the list, or of the history where the prompt is
            empty, is an answer: go on with it in place of a new one.
    """

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Natural | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    mean_gen_len: Count | None = None
    max_gen_len: Count | None = None
    n: Count | None = None
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    seed: Seed | None = None
    logit_bias: dict[TokenIdKey, LogitBias] | None = None
    logprobs: Alternatives | None = None
    continue_final_message: bool | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_string(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def check_generation(generation: GenerationConfig | None) -> GenerationConfig:
    """The user's overlay for one generation; an empty one for None.

    Raises:
        ConfigError: it is something else.
    """
    if generation is None:
        return GenerationConfig()
    if not isinstance(generation, GenerationConfig):
        raise ConfigError(
            f"generation_config must be a GenerationConfig, not {shown(generation)}.",
            code="argument-mistyped",
        )
    return generation
