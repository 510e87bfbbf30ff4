"""What a user may configure, and what a model folder says of itself.

``ChatConfig``, ``ConvConfig`` and ``GenerationConfig`` are overlays: every field is optional, and
only the fields that were set override what lies below (model file < ChatConfig <
GenerationConfig). :class:`ModelFile` is ``mlc-chat-config.json`` itself.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlc_llm.errors import ConfigError, ModelFolderError, unknown

logger = logging.getLogger("mlc_llm")

CHAT_CONFIG_FILE = "mlc-chat-config.json"

Temperature = Annotated[float, Field(ge=0.0)]
TopP = Annotated[float, Field(gt=0.0, le=1.0)]
Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]
RepetitionPenalty = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
Window = Annotated[int, Field(ge=-1)]
"""A number of tokens; -1 means that there is no such limit."""


class Overlay(BaseModel):
    """Base of the user's configuration objects: unknown fields are errors, unset fields silent."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_assignment=True)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(_explain(type(self), error)) from None

    def overrides(self) -> dict[str, Any]:
        """The fields that the user set, by name; nested overlays stay objects."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}


class ConvConfig(Overlay):
    """Overrides of a conversation template's fields.

    The older spellings ``system``, ``stop_tokens``, ``add_bos``, ``prefix_tokens`` and
    ``role_msg_sep`` are accepted; ``offset`` and ``separator_style`` are accepted and mean nothing
    any more.
    """

    name: str | None = None
    system_template: str | None = None
    system_message: str | None = None
    system_prefix_token_ids: list[int] | None = None
    add_role_after_system_message: bool | None = None
    roles: dict[str, str] | None = None
    role_templates: dict[str, str] | None = None
    messages: list[tuple[str, str]] | None = None
    seps: Annotated[list[str], Field(min_length=1, max_length=2)] | None = None
    role_content_sep: str | None = None
    role_empty_sep: str | None = None
    stop_str: list[str] | None = None
    stop_token_ids: list[int] | None = None
    function_string: str | None = None
    use_function_calling: bool | None = None
    strip_reasoning_in_history: bool | None = None
    add_bos: bool | None = None
    offset: int | None = None
    separator_style: int | str | None = None

    _OLDER: ClassVar[dict[str, str]] = {
        "system": "system_message",
        "stop_tokens": "stop_token_ids",
        "prefix_tokens": "system_prefix_token_ids",
        "role_msg_sep": "role_content_sep",
    }

    @model_validator(mode="before")
    @classmethod
    def _translate_older_spellings(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        for old, new in cls._OLDER.items():
            if old not in data:
                continue
            if new in data:
                raise ValueError(f"{old!r} and {new!r} are the same field; give one of them")
            data[new] = data.pop(old)
        return data

    @field_validator("stop_str", mode="before")
    @classmethod
    def _one_stop_string(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class ChatConfig(Overlay):
    """Overrides of the fields of ``mlc-chat-config.json``.

    Args:
        conv_template: a template's name, or the template itself as a JSON object.
        conv_config: overrides of the conversation template's fields.
        context_window_size: tokens that the conversation may hold; -1 for no limit.
        sliding_window_size: tokens that attention looks back; -1 for all.
        prefill_chunk_size: most tokens that one prefill step takes.
        attention_sink_size: first tokens that a sliding window keeps; -1 for the model's own.
        mean_gen_len: tokens that an answer is expected to need when old turns are dropped.
        max_gen_len: most tokens of one answer.
        shift_fill_factor: share of the window that stays filled when old turns are dropped.
        opt: compilation options, such as ``"activations=a8"``.
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
    shift_fill_factor: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    tokenizer_files: list[str] | None = None
    conv_config: ConvConfig | None = None
    model_category: str | None = None
    model_name: str | None = None
    tensor_parallel_shards: Literal[1] | None = None
    use_presharded_weights: bool | None = None
    context_window_size: Window | None = None
    sliding_window_size: Window | None = None
    prefill_chunk_size: Window | None = None
    attention_sink_size: Window | None = None
    max_batch_size: Count | None = None
    opt: str | None = None


def parse_options(text: str) -> dict[str, str]:
    """Compilation options, ``"name=value,name=value"``, by name in sorted order.

    Raises:
        ConfigError: the text is not of that form, or names an option twice.
    """
    options: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ConfigError(f"Compilation option {part!r} is not of the form name=value.")
        if name in options:
            raise ConfigError(f"Compilation option {name!r} is given twice.")
        options[name] = value
    return dict(sorted(options.items()))


class GenerationConfig(Overlay):
    """How one answer is generated; what is not set comes from the chat's own configuration.

    Args:
        temperature: 0 is greedy; larger is more random.
        top_p: the nucleus: the smallest set of tokens whose probability reaches it is kept.
        top_k: how many of the likeliest tokens are kept; 0 keeps all.
        min_p: least probability kept, as a share of the likeliest token's.
        n: how many answers to give, each from the same history.
        stop: strings that end the answer and are not part of it.
        seed: makes sampling reproducible.
        logit_bias: added to the logits, by token id.
        logprobs: record the log-probability of each token, and of that many alternatives.
    """

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    repetition_penalty: RepetitionPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    mean_gen_len: Count | None = None
    max_gen_len: Count | None = None
    n: Count | None = None
    stop: list[str] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    logit_bias: dict[int, Annotated[float, Field(ge=-100.0, le=100.0)]] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop_string(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class ModelFile(BaseModel):
    """``mlc-chat-config.json``: what a model folder says of the model and of how to chat with it.

    ``architecture_config`` is the file's ``model_config`` (a name that pydantic keeps for itself):
    the architecture's own fields.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)

    version: str = "0.1.0"
    model_type: str
    quantization: str
    architecture_config: dict[str, Any] = Field(alias="model_config")
    vocab_size: Count
    active_vocab_size: Count | None = None
    context_window_size: Window = -1
    sliding_window_size: Window = -1
    prefill_chunk_size: Window = -1
    attention_sink_size: Window = -1
    tensor_parallel_shards: int = 1
    pipeline_parallel_stages: int = 1
    max_batch_size: int = 1
    temperature: Temperature = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    top_p: TopP = 1.0
    mean_gen_len: Count = 128
    max_gen_len: Count = 512
    shift_fill_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    tokenizer_files: list[str] = []
    tokenizer_info: dict[str, Any] | None = None
    conv_template: str | dict[str, Any]
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    model_task: str | None = None
    embedding_metadata: dict[str, Any] | None = None

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The end-of-sequence tokens' ids, however the file gives them."""
        eos = self.eos_token_id
        return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file at ``path``.

        Raises:
            ModelFolderError: the file is not JSON, or a field is missing or malformed.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ModelFolderError(f"{path} is not valid JSON: {error}.") from None
        if not isinstance(data, dict):
            raise ModelFolderError(f"{path} holds a {type(data).__name__}, not a JSON object.")
        try:
            loaded = cls.model_validate(data)
        except ValidationError as error:
            raise ModelFolderError(f"{path}: {_explain(cls, error)}") from None
        if loaded.model_extra:
            names = ", ".join(sorted(loaded.model_extra))
            logger.warning("%s has fields that are not known and not used: %s", path, names)
        return loaded

    def overlaid(self, chat_config: ChatConfig | None) -> ModelFile:
        """A copy in which the fields that ``chat_config`` sets replace this file's."""
        if chat_config is None:
            return self.model_copy(deep=True)
        here = type(self).model_fields
        changes = {
            name: value
            for name, value in chat_config.overrides().items()
            if name in here and value is not None
        }
        return self.model_copy(update=changes, deep=True)


def _explain(cls: type[BaseModel], error: ValidationError) -> str:
    """One line an error: the field, what is wrong with it, and the value that was given."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(unknown(f"{cls.__name__} field", where, cls.model_fields))
        elif item["type"] == "missing":
            lines.append(f"{cls.__name__} needs the field {where!r}.")
        else:
            message = item["msg"].removeprefix("Value error, ")
            named = f"{cls.__name__}.{where}" if where else cls.__name__
            given = "" if isinstance(item["input"], dict) else f" (given: {item['input']!r})"
            lines.append(f"{named}: {message}{given}.")
    return " ".join(lines)
