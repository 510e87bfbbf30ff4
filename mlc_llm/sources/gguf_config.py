"""The metadata of a GGUF file as its model's ``config.json`` and ``generation_config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConversionError
from mlc_llm.plugin.gguf import GGUFFamily
from mlc_llm.sources.gguf_parts import GGUFModel
from mlc_llm.sources.gguf_rope import rope_scaling
from mlc_llm.weights.paths import shown_name

SETTINGS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "layer_norm_eps": "attention.layer_norm_epsilon",
    "rope_theta": "rope.freq_base",
    "sliding_window": "attention.sliding_window",
}
"""Fields of ``config.json`` by the keys of the metadata, without the architecture's name."""

_TOKENS = {
    "bos_token_id": "bos_token_id",
    "pad_token_id": "padding_token_id",
}
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Tokens that end an answer."""

_SAMPLING = {
    "temperature": "temp",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}
_DEFAULT_BASE = 10_000.0


def config(
    model: GGUFModel,
    family: GGUFFamily,
    model_type: str,
    rope_tensors: Mapping[str, npt.NDArray[np.float32]],
) -> dict[str, Any]:
    """What the model's ``config.json`` says.

    Args:
        model: the model's file.
        family: how its metadata is named.
        model_type: the architecture's name.
        rope_tensors: the tensors that say how RoPE is scaled.

    Raises:
        ConversionError: a setting is of a wrong type, or differs from layer to layer.
    """
    settings = _Settings(model, family.architecture)
    data: dict[str, Any] = {"model_type": model_type}
    for field, key in {**SETTINGS, **family.settings}.items():
        value = settings.value(key)
        if value is not None:
            data[field] = value
    data |= token_ids(model)
    table = model.tensors.get("token_embd.weight")
    if table is not None:
        data["vocab_size"] = table[1].shape[0]
    data["tie_word_embeddings"] = "output.weight" not in model.tensors
    data["attention_bias"] = "blk.0.attn_q.bias" in model.tensors
    data["mlp_bias"] = "blk.0.ffn_down.bias" in model.tensors
    for field, make in family.implied.items():
        value = make(data, model.tensors)
        if value is not None:
            data[field] = value
    try:
        return data | _rope(settings, data, rope_tensors)
    except ValueError as error:
        raise ConversionError(f"{model.path}: {error}.", code="source-config-invalid") from None


def generation_config(model: GGUFModel) -> dict[str, Any]:
    """What the model's ``generation_config.json`` says; fields that the file lacks are left out."""
    found = {ours: model.metadata.get(f"general.sampling.{key}") for ours, key in _SAMPLING.items()}
    given = {name: _shortest(value) for name, value in found.items() if value is not None}
    return {**given, **token_ids(model)}


def token_ids(model: GGUFModel) -> dict[str, Any]:
    """The ids of the special tokens by the names of Hugging Face's files."""
    prefix = "tokenizer.ggml."
    found: dict[str, Any] = {
        ours: model.metadata[prefix + theirs]
        for ours, theirs in _TOKENS.items()
        if prefix + theirs in model.metadata
    }
    ends = [model.metadata[prefix + name] for name in _ENDS if prefix + name in model.metadata]
    if ends:
        unique = list(dict.fromkeys(ends))
        found["eos_token_id"] = unique if len(unique) > 1 else unique[0]
    return found


class _Settings:
    """The settings of a model's own architecture."""

    def __init__(self, model: GGUFModel, architecture: str) -> None:
        self._model, self._architecture = model, architecture

    def value(self, name: str) -> Any:
        """A setting: a number or a text; None where there is none."""
        key = f"{self._architecture}.{name}"
        value = self._model.metadata.get(key)
        if isinstance(value, list):
            if len(set(value)) != 1:
                raise ConversionError(
                    f"{key} in {self._model.path} is {shown_name(repr(value[:8]))}: layers that "
                    "differ in it are not read.",
                    code="source-config-invalid",
                )
            value = value[0]
        return _shortest(value)


def _rope(
    settings: _Settings,
    data: Mapping[str, Any],
    tensors: Mapping[str, npt.NDArray[np.float32]],
) -> dict[str, Any]:
    """RoPE's base and scaling; nothing where the sizes that they depend on are missing."""
    hidden, heads, length = (
        _number(data.get(name))
        for name in ("hidden_size", "num_attention_heads", "max_position_embeddings")
    )
    if not (hidden and heads and length):
        return {}
    scaling = rope_scaling(
        settings.value,
        tensors,
        base=_number(data.get("rope_theta")) or _DEFAULT_BASE,
        head_dim=int(_number(data.get("head_dim")) or hidden // heads),
        length=int(length),
    )
    return {} if scaling is None else {"rope_scaling": scaling}


def _number(value: Any) -> float:
    """A positive number; 0 for anything else, which whoever reads the config refuses."""
    return value if isinstance(value, int | float) and value > 0 else 0


def _shortest(value: Any) -> Any:
    """A number of float32 as the shortest decimal that gives it back: 1e-05, not 9.9999997e-06."""
    if not isinstance(value, float):
        return value
    with np.errstate(over="ignore"):
        return float(str(np.float32(value)))
