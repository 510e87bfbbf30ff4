"""A model's parameters as a model folder stores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlc_llm.model.layers import Embedding, Linear
from mlc_llm.model.module import Module, computes_as, named_modules, named_parameters
from mlc_llm.plugin.scheme import Plan, Scheme, StoredTensor, stored_parts, stored_tensors


@dataclass(frozen=True)
class StoredWeight:
    """A matrix of weights of a linear layer or an embedding, and how it is stored.

    Args:
        name: its name, ``NAME.weight``.
        parts: rows and scheme of each part; usually there is one.
        columns: columns of the weight.
    """

    name: str
    parts: tuple[tuple[int | str, Scheme], ...]
    columns: int

    @staticmethod
    def of(name: str, layer: Linear | Embedding, plan: Plan) -> StoredWeight:
        """That of a layer called ``name``."""
        weight = f"{name}.weight"
        schemes = plan.schemes(weight, embedding=isinstance(layer, Embedding))
        if isinstance(layer, Embedding):
            return StoredWeight(weight, ((layer.num, schemes[0]),), layer.dim)
        rows = layer.parts if len(schemes) > 1 else (layer.out_features,)
        return StoredWeight(weight, tuple(zip(rows, schemes, strict=True)), layer.in_features)

    @property
    def tensors(self) -> list[StoredTensor]:
        """What it is stored in, the tensors of a part one after the other."""
        return stored_tensors(self.name, self.parts, self.columns)

    @property
    def part_tensors(self) -> list[list[StoredTensor]]:
        """What each part is stored in."""
        return stored_parts(self.name, self.parts, self.columns)


def stored_weights(model: Module, plan: Plan) -> Iterator[StoredWeight]:
    """The weights of a model's linear layers and embeddings, as a plan stores them.

    A layer of an architecture's own that only derives from one of them keeps its weight as it is.
    """
    for name, module in named_modules(model):
        if computes_as(module, Linear) or computes_as(module, Embedding):
            yield StoredWeight.of(name, module, plan)


def stored_parameters(model: Module, plan: Plan) -> list[StoredTensor]:
    """All tensors of a model folder, in the model's order.

    Args:
        model: as the architecture declares it.
        plan: how its weights are stored.
    """
    weights = {weight.name: weight for weight in stored_weights(model, plan)}
    tensors = []
    for name, parameter in named_parameters(model).items():
        if name in weights:
            tensors += weights[name].tensors
        else:
            dtype = parameter.dtype or plan.dtype
            tensors.append(StoredTensor(name, parameter.shape, dtype))
    return tensors
