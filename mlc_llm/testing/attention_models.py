"""Compiles and loads the models of :mod:`mlc_llm.testing.attention_kinds` on a device."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlc_llm.compile import compile_library
from mlc_llm.model.layers import AttentionCache, Embedding
from mlc_llm.model.llama import (
    Llama,
    LlamaAttention,
    LlamaConfig,
    LlamaDecoderLayer,
    LlamaForCausalLM,
)
from mlc_llm.model.module import Parameter
from mlc_llm.plugin import AttentionSpec, Device, ModelSpec
from mlc_llm.plugin.scheme import stored_tensors
from mlc_llm.quantization import plan
from mlc_llm.quantization.packing import quantize
from mlc_llm.runtime import kv_cache
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.parameters import load_parameters
from mlc_llm.testing.attention_kinds import (
    EPSILON,
    HIDDEN,
    INNER,
    LENGTH,
    VOCABULARY,
    Array,
    AttentionKind,
)
from mlc_llm.weights.folder import ModelFolder

if TYPE_CHECKING:
    import tvm
    from tvm.relax.frontend.nn import Tensor


class _Attention(LlamaAttention):
    """Llama's, with a logit of each query head where the description asks for it."""

    def __init__(self, config: LlamaConfig, attention: AttentionSpec) -> None:
        super().__init__(config, attention)
        shape = (attention.query_heads,)
        self.sinks = Parameter(shape, "float32") if attention.sink_logits else None

    def forward(
        self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor | None = None
    ) -> Tensor:
        attended = kv_cache.attend(layer, self.qkv_proj(x), self.sinks)
        return self.o_proj(attended, add=residual)


class _DecoderLayer(LlamaDecoderLayer):
    def __init__(self, config: LlamaConfig, attention: AttentionSpec) -> None:
        super().__init__(config, attention)
        self.self_attn = _Attention(config, attention)


class _CausalLM(LlamaForCausalLM):
    """Llama's, with a table of positions where they are learned."""

    layer_type = _DecoderLayer

    def __init__(self, config: LlamaConfig, kind: AttentionKind) -> None:
        super().__init__(config, kind.layers)
        self.embed_positions = Embedding(LENGTH, HIDDEN) if kind.learned else None
        self.offset = kind.offset

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        if self.embed_positions is not None:
            positions = kv_cache.positions
            at = positions + self.offset if self.offset else positions
            hidden = hidden + self.embed_positions(at)
        return super().layers(hidden, kv_cache)


class _Architecture(Llama):
    """Llama with a description of each layer that is given, and not read from a file."""

    def __init__(self, kind: AttentionKind) -> None:
        self.kind = kind

    def attention(self, config: Any) -> list[AttentionSpec]:
        return list(self.kind.layers)

    def module(self, config: Any) -> _CausalLM:
        return _CausalLM(config, self.kind)


def compile_kind(
    kind: AttentionKind, quantization: str, device: Device, path: Path, opt: str = ""
) -> None:
    """Compile a model's library for a device's first adapter, and write it to ``path``."""
    architecture = _Architecture(kind)
    data = {
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": len(kind.layers),
        "num_attention_heads": kind.layers[0].query_heads,
        "vocab_size": VOCABULARY,
        "context_window_size": LENGTH,
        "rms_norm_eps": EPSILON,
    }
    spec = ModelSpec(
        architecture=architecture.name,
        shape=architecture.config(data).shape(),
        plan=plan(quantization),
        opt=opt,
    )
    compile_library(spec, architecture, device, device.target(), path)


class _Weights:
    """Weights as a model folder stores them; read as one."""

    def __init__(self, weights: Mapping[str, Array], quantization: str) -> None:
        self._weights, self._plan = weights, plan(quantization)

    def read(self, name: str) -> np.ndarray:
        """A stored tensor."""
        owner, _, part = name.rpartition(".")
        weight = f"{owner}.weight"
        if name not in self._weights and weight in self._weights:
            [scheme] = self._plan.schemes(weight, embedding="embed" in owner)
            names = [tensor.name for tensor in stored_tensors(weight, ((0, scheme),), 0)]
            return quantize(self._weights[weight], scheme)[names.index(name)]
        dtype = "float32" if part == "sinks" else self._plan.dtype
        return self._weights[name].astype(dtype)

    def forget(self, name: str) -> None:
        """Nothing is kept."""


class KindModel:
    """A model that is compiled, with its weights on a device.

    Args:
        library: what :func:`compile_kind` wrote.
        quantization: the quantisation that it was compiled for.
        weights: as :func:`~mlc_llm.testing.attention_kinds.random_weights` gives them.
        device: the device.
    """

    def __init__(
        self, library: Path, quantization: str, weights: Mapping[str, Array], device: Device
    ) -> None:
        self._device: tvm.runtime.Device = device.open(0)
        self._library = CompiledLibrary(library, self._device)
        folder = cast(ModelFolder, _Weights(weights, quantization))
        parameters = load_parameters(self._library, folder, self._device)
        self.functions = ModelFunctions(self._library, parameters, self._device, VOCABULARY)

    def sequential(self, chunk: int) -> LoadedModel:
        """A cache of one sequence, whose prompts are computed in chunks.

        Of what this and :meth:`cache` have given, only the last can be used.
        """
        window = ContextWindow(LENGTH, chunk)
        parts = (self._library, self.functions, window, VOCABULARY, self._device)
        return LoadedModel(*parts)

    def cache(self, sequences: int) -> kv_cache.KVCache:
        """An empty cache with room for some sequences, which ``functions`` use from now on."""
        geometry = self._library.metadata.kv_cache
        rows = sequences * LENGTH
        made = kv_cache.KVCache(geometry, LENGTH, rows, self._device, sequences)
        self.functions.use(made)
        return made
