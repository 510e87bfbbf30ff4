"""A small model of each built-in family with random weights, and how far a device is from the CPU.

For the authors of devices. A model is made in MLC's layout from what its architecture declares, so
that it needs neither a checkpoint nor another implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlc_llm.device.cpu import CPU
from mlc_llm.library.cache import LibraryCache
from mlc_llm.model.module import named_parameters
from mlc_llm.model.stored import stored_weights
from mlc_llm.plugin import Architecture, Device, LibraryRequest, ModelSpec, Plan
from mlc_llm.quantization import plan
from mlc_llm.quantization.packing import quantize
from mlc_llm.registry.registry import default_registry
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.testing.libraries import effective, library_once
from mlc_llm.testing.workbench import PREFILL_CHUNK, prompt
from mlc_llm.weights.folder import ModelFolder

if TYPE_CHECKING:
    from pathlib import Path

Config = dict[str, Any]

LENGTH = 128
SIZES: Config = {
    "vocab_size": 300,
    "hidden_size": 128,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LENGTH,
}
"""Fields of ``config.json``, under the names that most families have for them."""

_YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
_LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_WINDOW = {"sliding_window": 20}
_GEMMA = {"head_dim": 48, "query_pre_attn_scalar": 48, **_WINDOW}

FAMILIES: dict[str, Config] = {
    "gemma": {"head_dim": 48, "num_key_value_heads": 1},
    "gemma2": {**_GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gemma3": {"text_config": {**SIZES, **_GEMMA, "sliding_window_pattern": 2}},
    "gpt2": {"n_embd": 128, "n_head": 4, "n_layer": 2, "n_positions": LENGTH},
    "gpt_neox": {"rotary_pct": 0.25},
    "granite": {
        "embedding_multiplier": 2.0,
        "attention_multiplier": 0.2,
        "residual_multiplier": 0.7,
        "logits_scaling": 3.0,
    },
    "internlm2": {"bias": True},
    "llama": {"rope_parameters": _LLAMA_3, "tie_word_embeddings": True},
    "ministral3": {"head_dim": 32, "rope_parameters": _YARN, "tie_word_embeddings": True},
    "mistral": _WINDOW,
    "olmo2": {},
    "phi": {"partial_rotary_factor": 0.5},
    "phi3": {"rope_parameters": {"rope_theta": 1e5, "partial_rotary_factor": 0.75}},
    "qwen2": {"use_sliding_window": True, **_WINDOW, "max_window_layers": 1},
    "qwen3": {"head_dim": 48},
    "smollm3": {"no_rope_layer_interval": 2},
    "stablelm": {"use_qkv_bias": True},
}
"""Fields beside :data:`SIZES`, by the architecture's name; they turn on what is a family's own."""

PROMPT, ANSWER = 3 * PREFILL_CHUNK + 2, 12
"""Tokens of a prompt that takes several chunks and goes past windows, and of the answer to it."""


class FamilyModel:
    """A small model of a family.

    Args:
        name: the architecture's name, one of :data:`FAMILIES`.
        quantization: the quantisation.
        libraries: where compiled libraries are kept.
    """

    def __init__(self, name: str, quantization: str, libraries: LibraryCache) -> None:
        self.architecture: Architecture = default_registry().architecture(name)
        self.plan: Plan = plan(quantization)
        self._config = self.architecture.config({**SIZES, **FAMILIES[name]})
        self._libraries = libraries

    def load(self, device: Device) -> LoadedModel:
        """Compile it for a device's first adapter, and load it there, in this thread."""
        handle = device.open(0)
        library = CompiledLibrary(self._library(device), handle)
        parameters = load_parameters(library, cast(ModelFolder, self), handle)
        size = self._config.vocab_size
        capture = partial(device.capture, handle)
        functions = ModelFunctions(library, parameters, handle, size, capture)
        return LoadedModel(library, functions, ContextWindow(LENGTH, PREFILL_CHUNK), size, handle)

    def _library(self, device: Device) -> Path:
        opt = "activations=a16" if device.name == "cpu" else ""
        spec = ModelSpec(
            architecture=self.architecture.name,
            shape=self._config.shape(),
            plan=self.plan,
            opt=effective(opt, self.plan),
        )
        request = LibraryRequest(spec, device.name, device.target(), self._libraries.folder)
        return library_once(self._libraries, request, self.architecture, device)

    def read(self, name: str) -> np.ndarray:
        """A tensor as a model folder has it."""
        if not hasattr(self, "_tensors"):
            self._tensors = self._random_tensors()
        return self._tensors[name]

    def forget(self, name: str) -> None:
        """Nothing is kept."""

    def _random_tensors(self) -> dict[str, np.ndarray]:
        module, random = self.architecture.module(self._config), np.random.default_rng(0)
        matrices = {weight.name: weight for weight in stored_weights(module, self.plan)}
        tensors: dict[str, np.ndarray] = {}
        for name, parameter in named_parameters(module).items():
            rows = self._config.vocab_size
            shape = [rows if size == "vocab_size" else int(size) for size in parameter.shape]
            values = random.standard_normal(shape, np.float32)
            if name in matrices:
                ((_, scheme),) = matrices[name].parts
                stored = quantize(values / np.sqrt(np.float32(shape[-1])), scheme)
                named = [tensor.name for tensor in matrices[name].tensors]
                tensors |= zip(named, stored, strict=True)
            else:
                around = np.float32(name.endswith("weight"))  # of a norm; a bias is around zero
                dtype = parameter.dtype or self.plan.dtype
                tensors[name] = (around + np.float32(0.2) * values).astype(dtype)
        return tensors


def answer(model: LoadedModel, given: Sequence[int] = ()) -> tuple[list[int], np.ndarray]:
    """A greedy answer to a prompt of several chunks, and the logits of each of its tokens.

    Args:
        model: the model.
        given: tokens to take in the place of the likeliest ones.
    """
    logits, tokens, rows = model.feed(prompt(PROMPT, model.vocab_size)), [], []
    for step in range(ANSWER):
        rows.append(np.array(logits))
        tokens.append(int(given[step] if given else logits.argmax()))
        logits = model.decode(tokens[-1])
    return tokens, np.stack(rows)


def distance_from_cpu(
    name: str, quantization: str, device: Device, libraries: LibraryCache
) -> float:
    """How far logits on a device are from the CPU's, after a prompt and while an answer is made.

    Where it is less than half of what the two likeliest tokens differ by, the answer is the CPU's.

    Args:
        name: the family.
        quantization: the quantisation.
        device: the device.
        libraries: where compiled libraries are kept.

    Returns:
        The largest difference of two logits in standard deviations of the CPU's; infinity where
        one is not finite.
    """
    model = FamilyModel(name, quantization, libraries)
    tokens, wanted = answer(model.load(CPU))
    _, found = answer(model.load(device), tokens)
    if not np.isfinite(found).all():
        return float("inf")
    return float((np.abs(found - wanted).max(axis=1) / wanted.std(axis=1)).max())
