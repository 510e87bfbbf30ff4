"""Llama in NumPy, straight from its definition: what compiled models are compared with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.plugin import Plan
from mlc_llm.quantization import plan
from mlc_llm.quantization.packing import dequantize, quantize
from mlc_llm.sources.safetensors import SINGLE_FILE
from mlc_llm.sources.safetensors_file import read_header

Array = npt.NDArray[np.float32]

Logits = Callable[[Sequence[int]], npt.NDArray[np.floating]]
"""From the ids of all tokens to the logits after the last one: of shape (vocab_size,)."""


class LlamaReference:
    """The logits of a checkpoint with Llama's tensors, in float32 and without a cache.

    Args:
        checkpoint: a folder as :func:`~mlc_llm.testing.make_checkpoint` writes it; RoPE scaling
            and sliding windows are not read.
        quantization: the weights are rounded as this quantisation stores them.
    """

    def __init__(self, checkpoint: Path, quantization: str = "q0f32") -> None:
        self._config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
        stored = plan(quantization)
        tensors = read_header(checkpoint / SINGLE_FILE)
        self._weights = {name: _rounded(name, t.read(), stored) for name, t in tensors.items()}

    def __call__(self, ids: Sequence[int]) -> Array:
        """The logits after the last of ``ids``: float32 of shape (vocab_size,)."""
        weights, config = self._weights, self._config
        states = weights["model.embed_tokens.weight"][np.asarray(ids)]
        for index in range(config["num_hidden_layers"]):
            layer = f"model.layers.{index}."
            states = states + self._attention(layer, self._norm(layer + "input_layernorm", states))
            states = states + self._mlp(
                layer, self._norm(layer + "post_attention_layernorm", states)
            )
        last = self._norm("model.norm", states[-1:])
        head = weights.get("lm_head.weight", weights["model.embed_tokens.weight"])
        logits: Array = (last @ head.T)[0]
        return logits

    def _linear(self, name: str, states: Array) -> Array:
        return states @ self._weights[name + ".weight"].T

    def _norm(self, name: str, states: Array) -> Array:
        variance = np.mean(states**2, axis=-1, keepdims=True)
        scale = np.sqrt(variance + np.float32(self._config["rms_norm_eps"]))
        return states / scale * self._weights[name + ".weight"]

    def _mlp(self, layer: str, states: Array) -> Array:
        gate = self._linear(layer + "mlp.gate_proj", states)
        inner = gate / (1 + np.exp(-gate)) * self._linear(layer + "mlp.up_proj", states)
        return self._linear(layer + "mlp.down_proj", inner)

    def _attention(self, layer: str, states: Array) -> Array:
        config, count = self._config, len(states)
        heads, groups = config["num_attention_heads"], config["num_key_value_heads"]

        def project(part: str, number: int) -> Array:
            flat = self._linear(f"{layer}self_attn.{part}_proj", states)
            return flat.reshape(count, number, -1).swapaxes(0, 1)

        query = self._rotate(project("q", heads))
        key = self._rotate(project("k", groups)).repeat(heads // groups, axis=0)
        value = project("v", groups).repeat(heads // groups, axis=0)
        scores = query @ key.swapaxes(1, 2) / np.sqrt(np.float32(query.shape[-1]))
        scores = np.where(np.tri(count, dtype=bool), scores, np.float32("-inf"))
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        mixed = (weights @ value).swapaxes(0, 1).reshape(count, -1)
        return self._linear(layer + "self_attn.o_proj", mixed)

    def _rotate(self, heads: Array) -> Array:
        """Rotary embedding of (heads, positions, head_dim): a first-half element with its twin."""
        half = heads.shape[-1] // 2
        frequencies = self._config["rope_theta"] ** (-np.arange(half) / half)
        angles = np.outer(np.arange(heads.shape[1]), frequencies)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        first, second = heads[..., :half], heads[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _rounded(name: str, weight: Array, stored: Plan) -> Array:
    """A weight as it comes back from the format that it is stored in."""
    embedding = name == "model.embed_tokens.weight"
    [scheme] = stored.schemes(name, embedding=embedding)
    if weight.ndim == 2 and not scheme.is_float:
        return dequantize(quantize(weight, scheme), weight.shape[1], scheme)
    rounded: Array = weight.astype(stored.dtype).astype(np.float32)
    return rounded
