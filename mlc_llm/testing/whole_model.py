"""A small model that has what no single family has, and what NumPy computes for it.

For the authors of devices: a learned position beside a rotary one, scaled embeddings, a layer whose
attention and feed-forward stand side by side, a layer with norms of queries and keys, activations
of two kinds, factors of attention, residuals and logits, soft-capped logits and a tied head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlc_llm.model.causal_lm import CausalLM
from mlc_llm.model.layers import (
    Activation,
    AttentionCache,
    Embedding,
    GatedActivation,
    LayerNorm,
    Linear,
    RMSNorm,
    soft_cap,
)
from mlc_llm.model.module import Module, named_parameters
from mlc_llm.plugin import Architecture, AttentionSpec, ModelConfig, Rope, Weight
from mlc_llm.sources.safetensors import SINGLE_FILE
from mlc_llm.sources.safetensors_file import read_header
from mlc_llm.testing.layer_cases import ACTIVATIONS, layer_norm, rms_norm
from mlc_llm.testing.model_folder import save_tensors, write_byte_tokenizer

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

Array = npt.NDArray[np.float64]

HIDDEN, INNER, POSITIONS, VOCABULARY = 72, 100, 96, 300
EPS = 1e-2
EMBEDDING_SCALE, RESIDUAL_SCALE, LOGIT_SCALE, CAP = 3.0, 0.7, 0.4, 2.5
HEADS, KV_HEADS, SIZE = 4, 2, 20
ROPE = Rope(tuple(float(np.float32(0.3**i)) for i in range(6)))
"""Twelve of a head's twenty elements turn."""


class _Attention(Module):
    def __init__(self, attention: AttentionSpec, normed: bool) -> None:
        self.attention = attention
        self.qkv_proj = Linear(HIDDEN, attention.qkv_parts, bias=True)
        self.o_proj = Linear(attention.out_width, HIDDEN)
        self.q_norm = RMSNorm(SIZE, EPS, unit_offset=True) if normed else None
        self.k_norm = RMSNorm(SIZE, EPS, unit_offset=True) if normed else None

    def forward(
        self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor | None = None
    ) -> Tensor:
        qkv = self.qkv_proj(x)
        if self.q_norm is not None and self.k_norm is not None:
            qkv = self.q_norm.of_heads(qkv, self.attention, self.k_norm)
        return self.o_proj(kv_cache.attend(layer, qkv), add=residual)


class _MLP(Module):
    def __init__(self, gated: bool) -> None:
        self.up_proj = Linear(HIDDEN, (INNER, INNER) if gated else INNER, bias=not gated)
        self.act = GatedActivation("gelu") if gated else Activation("relu2")
        self.down_proj = Linear(INNER, HIDDEN, bias=gated)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.down_proj(self.act(self.up_proj(x)), add=residual)


class _SideBySide(Module):
    """Attention and feed-forward of the same normalised rows."""

    def __init__(self, attention: AttentionSpec) -> None:
        self.norm = LayerNorm(HIDDEN, EPS)
        self.attn, self.mlp = _Attention(attention, normed=False), _MLP(gated=True)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        normed = self.norm(x)
        both = self.attn(normed, kv_cache, layer, residual=self.mlp(normed))
        return x + both * RESIDUAL_SCALE


class _InTurn(Module):
    """Attention, then feed-forward, with norms before and after."""

    def __init__(self, attention: AttentionSpec) -> None:
        self.attn, self.mlp = _Attention(attention, normed=True), _MLP(gated=False)
        self.before = LayerNorm(HIDDEN, EPS, bias=False)
        self.after = RMSNorm(HIDDEN, EPS)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = x + self.after(self.attn(self.before(x), kv_cache, layer))
        return self.mlp(x, residual=x)


class _WholeModel(CausalLM):
    def __init__(self, config: ModelConfig, attention: Sequence[AttentionSpec]) -> None:
        self.embed_tokens = Embedding("vocab_size", HIDDEN)
        self.embed_positions = Embedding(POSITIONS, HIDDEN)
        self.blocks = [_SideBySide(attention[0]), _InTurn(attention[1])]
        self.norm = RMSNorm(HIDDEN, EPS, unit_offset=True)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.embed_tokens(token_ids) * EMBEDDING_SCALE

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        hidden = hidden + self.embed_positions(kv_cache.positions)
        for index, block in enumerate(self.blocks):
            hidden = block(hidden, kv_cache, index)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        return soft_cap(self.embed_tokens.as_linear(self.norm(hidden)) * LOGIT_SCALE, CAP)


class WholeModel(Architecture):
    """The architecture of the model."""

    name = "whole"
    config_type = ModelConfig
    module_type = _WholeModel

    def attention(self, config: Any) -> list[AttentionSpec]:
        plain = AttentionSpec(HEADS, KV_HEADS, SIZE, SIZE, 0.3, rope=ROPE)
        return [plain, AttentionSpec(HEADS, KV_HEADS, SIZE, SIZE, 0.2, rope=ROPE, window=19)]

    def weights(self, config: Any) -> list[Weight]:
        return [Weight(name) for name in named_parameters(self.module(config))]


def whole_checkpoint(path: Path, seed: int = 0) -> Path:
    """Make a checkpoint with random weights; returns its folder."""
    path.mkdir(parents=True)
    config = {
        "model_type": "whole",
        "hidden_size": HIDDEN,
        "num_hidden_layers": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_byte_tokenizer(path / "tokenizer.json", VOCABULARY)
    architecture, random = WholeModel(), np.random.default_rng(seed)
    module = architecture.module(architecture.config(config))
    tensors = {}
    for name, parameter in named_parameters(module).items():
        shape = tuple(VOCABULARY if size == "vocab_size" else int(size) for size in parameter.shape)
        # Norms and biases are spread around a half, so that each is missed where it is left out.
        values = 0.15 * random.standard_normal(shape, np.float32)
        tensors[name] = values + np.float32(0.5) if len(shape) == 1 else values
    save_tensors(path / SINGLE_FILE, tensors)
    return path


class WholeReference:
    """The logits of a checkpoint of :func:`whole_checkpoint`, in float64 and without a cache.

    Args:
        checkpoint: its folder.
    """

    def __init__(self, checkpoint: Path) -> None:
        tensors = read_header(checkpoint / SINGLE_FILE)
        self._p = {name: tensor.read().astype(np.float64) for name, tensor in tensors.items()}

    def __call__(self, ids: Sequence[int]) -> Array:
        """The logits after the last of ``ids``: (vocabulary,)."""
        p, count = self._p, len(ids)
        x = p["embed_tokens.weight"][np.asarray(ids)] * EMBEDDING_SCALE
        x = x + p["embed_positions.weight"][:count]
        side = _part(p, "blocks.0.")
        normed = layer_norm(x, side["norm.weight"], side["norm.bias"], EPS)
        both = _attend(_part(side, "attn."), normed, 0.3) + _gated(_part(side, "mlp."), normed)
        x = x + both * RESIDUAL_SCALE
        turn = _part(p, "blocks.1.")
        normed = layer_norm(x, turn["before.weight"], 0.0, EPS)
        attended = _attend(_part(turn, "attn."), normed, 0.2, window=19)
        x = x + rms_norm(attended, turn["after.weight"], EPS)
        x = x + _plain(_part(turn, "mlp."), x)
        last = rms_norm(x[-1], 1 + p["norm.weight"], EPS)
        logits: Array = CAP * np.tanh(last @ p["embed_tokens.weight"].T * LOGIT_SCALE / CAP)
        return logits


Parameters = Mapping[str, Array]


def _part(p: Parameters, prefix: str) -> Parameters:
    return {name.removeprefix(prefix): v for name, v in p.items() if name.startswith(prefix)}


def _gated(p: Parameters, x: Array) -> Array:
    gate, up = np.split(x @ p["up_proj.weight"].T, 2, axis=-1)
    made: Array = ACTIVATIONS["gelu"](gate) * up @ p["down_proj.weight"].T + p["down_proj.bias"]
    return made


def _plain(p: Parameters, x: Array) -> Array:
    inner = ACTIVATIONS["relu2"](x @ p["up_proj.weight"].T + p["up_proj.bias"])
    made: Array = inner @ p["down_proj.weight"].T
    return made


def _attend(p: Parameters, x: Array, scale: float, window: int | None = None) -> Array:
    qkv = x @ p["qkv_proj.weight"].T + p["qkv_proj.bias"]
    widths = np.cumsum([HEADS * SIZE, KV_HEADS * SIZE])
    q, k, v = (part.reshape(len(x), -1, SIZE) for part in np.split(qkv, widths, axis=1))
    if "q_norm.weight" in p:
        q, k = (
            rms_norm(heads, 1 + p[f"{name}_norm.weight"], EPS)
            for name, heads in (("q", q), ("k", k))
        )
    q, k = _rotated(q), _rotated(k).repeat(HEADS // KV_HEADS, axis=1)
    scores = np.einsum("qhd,khd->hqk", q, k) * scale
    at = np.arange(len(x))
    seen = at[None, :] <= at[:, None]
    if window is not None:
        seen &= at[None, :] > at[:, None] - window
    scores = np.where(seen, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hqk,khd->qhd", weights, v.repeat(HEADS // KV_HEADS, axis=1))
    made: Array = mixed.reshape(len(x), -1) @ p["o_proj.weight"].T
    return made


def _rotated(heads: Array) -> Array:
    pairs = len(ROPE.frequencies)
    angle = np.arange(len(heads))[:, None, None] * np.asarray(ROPE.frequencies)
    a, b, rest = heads[..., :pairs], heads[..., pairs : 2 * pairs], heads[..., 2 * pairs :]
    turned = (a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle))
    return np.concatenate([*turned, rest], axis=-1)
