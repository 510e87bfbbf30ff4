"""Small models whose layers attend in different ways, and their logits by NumPy in float64.

For the authors of devices: a model of each kind of attention that a layer can ask for, beside a
layer that does not ask for it. They have Llama's layers and random weights.
:mod:`mlc_llm.testing.attention_models` compiles and loads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mlc_llm.model.rope import rope
from mlc_llm.plugin import AttentionSpec
from mlc_llm.testing.paged_attention import attention, rotated

Array = npt.NDArray[np.floating]
Layers = tuple[AttentionSpec, ...]

HIDDEN, INNER, VOCABULARY = 64, 96, 200
EPSILON = 1e-5
LENGTH = 640
"""Most tokens of a sequence."""
WINDOW, SINK = 21, 4
"""A window that is not a multiple of a page or a tile, and the positions always seen beside it."""


@dataclass(frozen=True)
class AttentionKind:
    """A model by how its layers attend.

    Args:
        layers: how each layer attends.
        others: what its layers are not, with the same weights: descriptions that give other logits.
        learned: whether a table of positions is added to the embeddings.
        offset: what is added to a position that is looked up there, as in OPT.
    """

    layers: Layers
    others: tuple[Layers, ...] = ()
    learned: bool = False
    offset: int = 0

    def mistaken(self) -> Iterator[AttentionKind]:
        """The models that this one could be mistaken for."""
        for layers in self.others:
            yield replace(self, layers=layers, others=())
        if self.learned:
            yield replace(self, learned=False)
            yield replace(self, offset=self.offset + 1)


_PLAIN = AttentionSpec(4, 2, 16, 16, 16**-0.5, rope(16, 10000.0))
_BARE = replace(_PLAIN, rope=None)
_WINDOWED = replace(_PLAIN, window=WINDOW)
_YARN = rope(
    16, 10000.0, {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}
)


def _beside(
    layer: AttentionSpec, plain: AttentionSpec = _PLAIN, *others: AttentionSpec
) -> AttentionKind:
    """A layer and a plain one; they are not alike and not in another order."""
    mistaken = [(layer, layer), (plain, plain), (plain, layer), *((one, plain) for one in others)]
    return AttentionKind((layer, plain), tuple(mistaken))


def _rotated(**how: object) -> AttentionSpec:
    """A plain layer with another position embedding; ``how`` is what :func:`rope` takes."""
    return replace(_PLAIN, rope=rope(16, **{"theta": 10000.0, **how}))  # type: ignore[arg-type]


def _sizes() -> AttentionKind:
    """Heads of three numbers and two sizes. The first two layers have weights of the same shape."""
    wide = AttentionSpec(2, 1, 32, 32, 32**-0.5, rope(32, 10000.0))
    more = replace(wide, kv_heads=2)
    swapped = (wide, _PLAIN, more)
    return AttentionKind((_PLAIN, wide, more), (swapped, (wide, wide, more)))


def _unequal() -> AttentionKind:
    """Keys that are wider than values and narrower. The first two layers' weights are alike."""
    wider = AttentionSpec(4, 2, 24, 16, 24**-0.5, rope(24, 10000.0))
    double = AttentionSpec(2, 1, 48, 32, 48**-0.5, rope(48, 10000.0))
    narrower = AttentionSpec(4, 2, 16, 40, 16**-0.5, rope(16, 10000.0))
    return AttentionKind((wider, double, narrower), ((double, wider, narrower),))


def _shared() -> AttentionKind:
    """Two layers with keys of their own, and two that use these: with RoPE and without."""
    own = (_PLAIN, _BARE)
    first, second = replace(_PLAIN, keys_of=0), replace(_BARE, keys_of=1)
    crossed = replace(first, keys_of=1), replace(second, keys_of=0)
    others = [(first, replace(_BARE, keys_of=0)), (replace(_PLAIN, keys_of=1), second), crossed]
    unrotated, turned = replace(_BARE, keys_of=0), replace(_PLAIN, keys_of=1)
    others += [(unrotated, second), (first, turned)]
    return AttentionKind((*own, first, second), tuple((*own, *pair) for pair in others))


KINDS: dict[str, AttentionKind] = {
    "window": _beside(_WINDOWED, _PLAIN, replace(_PLAIN, window=WINDOW + 1)),
    "window with sink": _beside(
        replace(_WINDOWED, sink=SINK), _PLAIN, _WINDOWED, replace(_WINDOWED, sink=SINK + 1)
    ),
    "rope base": _beside(_rotated(theta=500000.0)),
    "rope linear": _beside(_rotated(scaling={"rope_type": "linear", "factor": 4.0})),
    "rope yarn": _beside(
        replace(_PLAIN, rope=_YARN), _PLAIN, replace(_PLAIN, rope=replace(_YARN, factor=1.0))
    ),
    "rope partial": _beside(_rotated(partial_rotary_factor=0.5)),
    "rope interleaved": _beside(_rotated(interleaved=True)),
    "no rope": _beside(_BARE),
    "head sizes": _sizes(),
    "unequal keys and values": _unequal(),
    "sink logits": _beside(replace(_PLAIN, sink_logits=True)),
    "soft cap": _beside(replace(_PLAIN, soft_cap=2.0)),
    "scale": _beside(replace(_PLAIN, scale=0.1)),
    "shared keys": _shared(),
    "learned positions": AttentionKind((_BARE, _BARE), learned=True),
    "learned positions from 2": AttentionKind((_BARE, _BARE), learned=True, offset=2),
}
"""A model for each kind of attention."""


def every_kind() -> AttentionKind:
    """One model with a layer of every kind."""
    layers: list[AttentionSpec] = []
    for kind in KINDS.values():
        first, shares = len(layers), any(layer.keys_of is not None for layer in kind.layers)
        for layer in kind.layers:
            if layer.keys_of is not None:
                layers.append(replace(layer, keys_of=first + layer.keys_of))
            elif shares or layer not in layers:
                layers.append(layer)
    return AttentionKind(tuple(layers), learned=True)


def random_weights(kind: AttentionKind, seed: int = 0) -> dict[str, Array]:
    """Weights by their names in MLC's layout, float32; keys and queries that tell tokens apart."""
    rng = np.random.default_rng(seed)
    return {
        name: (spread * rng.standard_normal(shape) + (len(shape) == 1 and "norm" in name)).astype(
            np.float32
        )
        for name, (shape, spread) in _shapes(kind).items()
    }


def _shapes(kind: AttentionKind) -> dict[str, tuple[tuple[int, ...], float]]:
    """The shape of each weight, and how far its elements spread."""
    shapes: dict[str, tuple[tuple[int, ...], float]] = {
        "model.embed_tokens.weight": ((VOCABULARY, HIDDEN), 1.0),
        "model.norm.weight": ((HIDDEN,), 0.1),
        "lm_head.weight": ((VOCABULARY, HIDDEN), 0.125),
    }
    if kind.learned:
        shapes["embed_positions.weight"] = ((LENGTH, HIDDEN), 1.0)
    for index, layer in enumerate(kind.layers):
        of_layer = {
            "input_layernorm.weight": ((HIDDEN,), 0.1),
            "self_attn.qkv_proj.weight": ((layer.qkv_width, HIDDEN), 0.2),
            "self_attn.o_proj.weight": ((HIDDEN, layer.out_width), 0.2),
            "self_attn.sinks": ((layer.query_heads,), 2.0),
            "post_attention_layernorm.weight": ((HIDDEN,), 0.1),
            "mlp.gate_up_proj.weight": ((2 * INNER, HIDDEN), 0.1),
            "mlp.down_proj.weight": ((HIDDEN, INNER), 0.1),
        }
        shapes |= {f"model.layers.{index}.{name}": how for name, how in of_layer.items()}
    return shapes


class AttentionReference:
    """The logits of a model, straight from the definition, in float64 and without a cache.

    Args:
        kind: the model.
        weights: as :func:`random_weights` gives them.
    """

    def __init__(self, kind: AttentionKind, weights: Mapping[str, Array]) -> None:
        self._kind = kind
        self._weights = {name: weight.astype(np.float64) for name, weight in weights.items()}

    def __call__(self, ids: Sequence[int]) -> Array:
        """The logits after each of ``ids``: float64 of shape (len(ids), vocabulary)."""
        weights = self._weights
        states = weights["model.embed_tokens.weight"][np.asarray(ids)]
        if self._kind.learned:
            positions = np.arange(len(ids)) + self._kind.offset
            states = states + weights["embed_positions.weight"][positions]
        kept: list[tuple[Array, Array]] = []
        for index in range(len(self._kind.layers)):
            layer = f"model.layers.{index}."
            states = states + self._attend(
                index, self._normed(layer + "input_layernorm", states), kept
            )
            states = states + self._mlp(
                layer, self._normed(layer + "post_attention_layernorm", states)
            )
        return self._linear("lm_head", self._normed("model.norm", states))

    def _attend(self, index: int, states: Array, kept: list[tuple[Array, Array]]) -> Array:
        """A layer's attention; the keys and values that it uses are added to ``kept``."""
        spec, name = self._kind.layers[index], f"model.layers.{index}.self_attn."
        positions = np.arange(len(states))
        widths = [spec.query_heads * spec.key_size, spec.kv_heads * spec.key_size]
        q, k, v = np.split(self._linear(name + "qkv_proj", states), np.cumsum(widths), axis=1)
        q = rotated(spec.rope, q.reshape(len(states), spec.query_heads, -1), positions)
        if spec.keys_of is None:
            k, v = (x.reshape(len(states), spec.kv_heads, -1) for x in (k, v))
            kept.append((rotated(spec.rope, k, positions), v))
        else:
            kept.append(kept[spec.keys_of])
        sinks = self._weights[name + "sinks"] if spec.sink_logits else None
        mixed = attention(spec, q, *kept[index], positions, sinks)
        return self._linear(name + "o_proj", mixed.reshape(len(states), -1))

    def _linear(self, name: str, states: Array) -> Array:
        return states @ self._weights[name + ".weight"].T

    def _normed(self, name: str, states: Array) -> Array:
        size = np.sqrt(np.mean(states**2, axis=-1, keepdims=True) + EPSILON)
        return states / size * self._weights[name + ".weight"]

    def _mlp(self, layer: str, states: Array) -> Array:
        gate, up = np.split(self._linear(layer + "mlp.gate_up_proj", states), 2, axis=1)
        return self._linear(layer + "mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
