"""``mlc-chat-config.json``: what a model folder says of itself."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlc_llm.config.explain import explain
from mlc_llm.config.numbers import (
    AnyTokenId,
    Count,
    FillFactor,
    Penalty,
    RepetitionPenalty,
    Sink,
    Temperature,
    Threads,
    TopP,
    WindowSize,
)
from mlc_llm.config.overlays import ChatConfig, ConvConfig, conv_config_fields, template_fields
from mlc_llm.errors import ModelFolderError
from mlc_llm.files import read_json_object

logger = logging.getLogger("mlc_llm")

CHAT_CONFIG_FILE = "mlc-chat-config.json"

UNSAID_SAMPLING = {"temperature": 0.7, "top_p": 0.95}
"""How a model is sampled whose files say neither of these, as in MLC LLM: small models answer far
better so than from all of their distribution. Where a file says one of them, the other is 1."""


class ModelFile(BaseModel):
    """``mlc-chat-config.json``: what a model folder says of the model and of how to chat with it.

    A field that is null counts as not there, a window of 0 as "not given": MLC writes both.

    ``quantization_plan`` says how the weights are stored where ``quantization`` is not the name of
    one of our plans: the fields of ``mlc_llm.plugin.Plan`` without the name.

    Without a ``conv_template`` the model's own chat template counts, which lies beside the file.
    ``conv_config`` holds overrides of the template's fields, which go with ``conv_template``.

    ``model_lib`` is the name of a library of MLC's own, which is not used. Nor are the fields from
    there on: files of former versions have them.

    ``architecture_config`` is the file's ``model_config`` (a name that pydantic keeps for itself):
    the architecture's own fields.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)

    version: str = "0.1.0"
    model_type: str
    quantization: str
    quantization_plan: dict[str, Any] | None = None
    architecture_config: dict[str, Any] = Field(alias="model_config")
    vocab_size: Count
    active_vocab_size: Count | None = None
    context_window_size: WindowSize = -1
    sliding_window_size: WindowSize = -1
    prefill_chunk_size: WindowSize = -1
    attention_sink_size: Sink = -1
    tensor_parallel_shards: Count = 1
    pipeline_parallel_stages: Count = 1
    max_batch_size: Count = 1
    num_threads: Threads | None = None
    temperature: Temperature = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    repetition_penalty: RepetitionPenalty = 1.0
    top_p: TopP = 1.0
    mean_gen_len: Count = 128
    max_gen_len: Count = 512
    shift_fill_factor: FillFactor = 0.3
    tokenizer_files: list[str] = []
    tokenizer_info: dict[str, Any] | None = None
    conv_template: str | dict[str, Any] | None = None
    conv_config: ConvConfig | None = None
    model_lib: str | None = None
    token_table_postproc_method: str | None = None
    local_id: str | None = None
    model_name: str | None = None
    model_category: str | None = None
    use_presharded_weights: bool | None = None
    pad_token_id: AnyTokenId | None = None
    bos_token_id: AnyTokenId | None = None
    eos_token_id: AnyTokenId | list[AnyTokenId] | None = None
    model_task: str | None = None
    embedding_metadata: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_not_given(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        windows = ("context_window_size", "sliding_window_size", "prefill_chunk_size")
        given = {
            name: value
            for name, value in data.items()
            if value is not None and not (name in windows and value == 0)
        }
        return given if UNSAID_SAMPLING.keys() & given.keys() else {**UNSAID_SAMPLING, **given}

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The end-of-sequence tokens' ids, however the file gives them."""
        eos = self.eos_token_id
        return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)

    @property
    def usable_vocab_size(self) -> int:
        """How many tokens a model can predict: rows of its table, without those that fill it up."""
        return min(self.vocab_size, self.active_vocab_size or self.vocab_size)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file at ``path``; fields that are not known are left out, with one warning.

        Raises:
            ModelFolderError: the file is not JSON, or a field is missing or malformed.
        """
        data = read_json_object(path, ModelFolderError)
        of_template = _drop_unknown_of_template(data)
        try:
            loaded = cls.model_validate(data)
        except ValidationError as error:
            raise ModelFolderError(
                f"{path}: {explain(error, '', cls.model_fields)}", code="model-config-invalid"
            ) from None
        if strangers := [*sorted(loaded.model_extra or ()), *of_template]:
            names = ", ".join(strangers)
            logger.warning("%s has fields that are not known and not used: %s", path, names)
        return loaded

    def overlaid(self, chat_config: ChatConfig | None) -> ModelFile:
        """A copy in which the fields that ``chat_config`` sets replace this file's.

        This file's ``conv_config`` goes with its template: it stays below the user's, and gives way
        with the template where the user names another. The copy shares nothing with this file, nor
        with ``chat_config``.
        """
        overrides = {} if chat_config is None else chat_config.overrides()
        known = type(self).model_fields.keys() & overrides.keys()
        changes = {name: copy.deepcopy(overrides[name]) for name in known}
        own = self.conv_config if "conv_template" not in overrides else None
        of_template = overrides.get("conv_config", ConvConfig()).laid_over(own)
        changes["conv_config"] = of_template if of_template.overrides() else None
        return self.model_copy(update=changes, deep=True)


def _drop_unknown_of_template(data: dict[str, Any]) -> list[str]:
    """Drop what is not a field of a template from one that a file has; return its names."""
    known = {"conv_template": template_fields(), "conv_config": conv_config_fields()}
    strangers = [
        (place, name)
        for place, fields in known.items()
        if isinstance(data.get(place), dict)
        for name in sorted(data[place].keys() - fields)
    ]
    for place, name in strangers:
        del data[place][name]
    return [f"{place}.{name}" for place, name in strangers]
