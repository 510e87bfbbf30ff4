"""The plan by which a checkpoint keeps the types that its tensors have."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from mlc_llm.convert.plan import require_tensors
from mlc_llm.model.layers import Embedding, Linear
from mlc_llm.model.module import computes_as, named_modules
from mlc_llm.plugin import Architecture, ModelConfig, Plan, Scheme, SourceTensor, Weight
from mlc_llm.plugin.scheme import FloatType

_FLOATS = Scheme(16, "float16")
"""What a weight is kept in that its own type cannot be kept in, as one that is computed."""


def own_plan(
    checkpoint: Mapping[str, SourceTensor],
    architecture: Architecture,
    config: ModelConfig,
    *,
    dtype: FloatType = "float16",
) -> Plan:
    """The plan that stores each matrix as the checkpoint does, so that nothing is rounded.

    Args:
        checkpoint: the tensors by the weight map's names; those that are missing are passed over.
        architecture: the model's.
        config: as the architecture reads it.
        dtype: of what is not a matrix of weights, such as norms.

    Returns:
        A plan called as the type of most weights of linear layers, such as ``q4_k``.

    Raises:
        ConversionError: the config asks for more layers than there are tensors.
    """
    require_tensors(checkpoint, architecture, config)
    weights = {weight.name: weight for weight in architecture.weights(config)}
    linears: dict[str, tuple[Scheme, ...]] = {}
    tables: dict[str, tuple[Scheme, ...]] = {}
    counts: Counter[tuple[Scheme, str]] = Counter()
    for name, layer in named_modules(architecture.module(config)):
        weight = weights.get(f"{name}.weight")
        if weight is None:
            continue
        sources = [checkpoint[source] for source in weight.sources if source in checkpoint]
        if computes_as(layer, Embedding):
            tables[weight.name] = _schemes(weight, sources, ())
        elif computes_as(layer, Linear):
            linears[weight.name] = _schemes(weight, sources, tuple(layer.parts))
            for source in sources:
                counts[source.scheme or _FLOATS, source.dtype] += math.prod(source.shape)
    [((linear, dtype_name), _)] = counts.most_common(1) or [((_FLOATS, "own"), 0)]
    embedding = next(iter(tables.values()), (_FLOATS,))[0]
    return Plan(
        name=dtype_name.lower(),
        dtype=dtype,
        linear=linear,
        embedding=embedding,
        exceptions={
            name: own
            for common, weights_of in ((linear, linears), (embedding, tables))
            for name, own in weights_of.items()
            if own != (common,)
        },
    )


def _schemes(
    weight: Weight, sources: Sequence[SourceTensor], parts: tuple[int | str, ...]
) -> tuple[Scheme, ...]:
    """The schemes of a weight's parts, or one for the whole weight."""
    own = tuple(source.scheme or _FLOATS for source in sources)
    unique = set(own)
    if len(unique) == 1 and (weight.make is None or weight.orders_rows or own[0].is_float):
        return own[:1]
    heights = tuple(source.shape[0] for source in sources if source.shape)
    if weight.make is None and heights == parts:
        return own
    return (_FLOATS,)
