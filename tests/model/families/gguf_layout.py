"""Checkpoints as GGUF files, as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Array = npt.NDArray[Any]
Config = dict[str, Any]

SETTINGS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.layer_norm_epsilon": "layer_norm_eps",
    "attention.sliding_window": "sliding_window",
}
"""Fields of ``config.json`` by the keys of a file, which has those that the config has."""


@dataclass(frozen=True)
class GGUFLayout:
    """What llama.cpp's converter does to the checkpoints of a family.

    Args:
        architecture: the files' ``general.architecture``.
        settings: further settings, made of the config; they replace those of :data:`SETTINGS`, and
            one that is None is left out.
        changes: by parts of names in a file: makes a tensor's values of the checkpoint's.
        extra: by names in a file: makes tensors of the config that a checkpoint lacks.
        left_out: parts of names in a checkpoint: of what a file does not have.
    """

    architecture: str
    settings: Mapping[str, Callable[[Config], Any]] = field(default_factory=dict)
    changes: Mapping[str, Callable[[Array, Config], Array]] = field(default_factory=dict)
    extra: Mapping[str, Callable[[Config], Array]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def write(self, path: Path, checkpoint: Path) -> Path:
        """Write a checkpoint as a file in float32, with a tokenizer of bytes."""
        config = json.loads((checkpoint / "config.json").read_text())
        config = config.get("text_config", config)
        writer = gguf.GGUFWriter(path, self.architecture)
        for key, value in {**self._settings(config), **_tokenizer(config)}.items():
            _add(writer, key, value)
        for name, values in self._tensors(checkpoint, config).items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def _settings(self, config: Config) -> dict[str, Any]:
        found = {key: config.get(name) for key, name in SETTINGS.items()}
        rope = config.get("rope_parameters") or {}
        found["rope.freq_base"] = rope.get("rope_theta")
        found |= {key: make(config) for key, make in self.settings.items()}
        return {f"{self.architecture}.{k}": v for k, v in found.items() if v is not None}

    def _tensors(self, checkpoint: Path, config: Config) -> dict[str, Array]:
        """The tensors by the names that the gguf package has for them."""
        kind = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[self.architecture]
        names = gguf.get_tensor_name_map(kind, config.get("num_hidden_layers", 99))
        tensors = {}
        for name, values in load_file(checkpoint / "model.safetensors").items():
            if any(part in name for part in self.left_out):
                continue
            name = name.replace("language_model.", "")
            theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
            assert theirs is not None, name
            for part, change in self.changes.items():
                if part in theirs:
                    values = change(values, config)
            tensors[theirs] = np.ascontiguousarray(values)
        return tensors | {name: make(config) for name, make in self.extra.items()}


def pairs(heads: str) -> Callable[[Array, Config], Array]:
    """Rows of halves as rows of pairs, as the converter turns queries and keys of Llama's kind.

    Args:
        heads: the config's field with the number of heads.
    """

    def change(values: Array, config: Config) -> Array:
        count = config[heads]
        halves = values.reshape(count, 2, len(values) // count // 2, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)

    return change


def plus_one(values: Array, config: Config) -> Array:
    """A norm as it is multiplied, where the checkpoint holds it less 1."""
    return values + 1


def _tokenizer(config: Config) -> dict[str, Any]:
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"tok{index}" for index in range(config["vocab_size"] - len(tokens))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)
