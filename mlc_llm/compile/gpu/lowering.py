"""A model's layers, replaced by ones that call the GPU's kernels on the parameters as stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mlc_llm.compile.gpu.layers import (
    GPUActivation,
    GPUEmbedding,
    GPUGatedActivation,
    GPULayerNorm,
    GPULinear,
    GPURMSNorm,
    StoredMatrix,
)
from mlc_llm.compile.gpu.makers import GPU
from mlc_llm.model.layers import (
    Activation,
    Embedding,
    GatedActivation,
    LayerNorm,
    Linear,
    RMSNorm,
)
from mlc_llm.model.module import Module, Parameter, computes_as, parameter_places, replace_modules
from mlc_llm.model.stored import StoredWeight
from mlc_llm.plugin import Repack
from mlc_llm.plugin.scheme import Plan


def lower(model: Module, plan: Plan, gpu: GPU) -> tuple[Module, list[Repack]]:
    """The lowered model, and the steps that pass its parameters through as they are stored.

    Args:
        model: the architecture's module; it is changed.
        plan: how its weights are stored.
        gpu: what it is lowered for.
    """
    lowering = GPULowering(plan, gpu)
    lowered = replace_modules(model, lowering.replacement)
    steps = []
    for place in parameter_places(lowered):
        parameter = place.get()
        if parameter.dtype is None:
            place.put(replace(parameter, dtype=plan.dtype))
        steps.append(Repack((lowering.stored.get(parameter, place.name),), (place.name,)))
    return lowered, steps


class GPULowering:
    """Chooses the layers of a lowered model.

    Args:
        plan: how the weights are stored.
        gpu: what the model is lowered for.
    """

    def __init__(self, plan: Plan, gpu: GPU) -> None:
        self._plan, self._gpu = plan, gpu
        self.stored: dict[Parameter, str] = {}
        """The names of stored tensors, by the parameters that hold them."""

    def replacement(self, name: str, module: Module) -> Module | None:
        """The layer that takes a module's place; None where the GPU has no kernel for it."""
        if computes_as(module, Linear):
            return GPULinear(module, self._matrices(name, module))
        if computes_as(module, Embedding):
            (table,) = self._matrices(name, module)
            return GPUEmbedding(table, self._plan.dtype)
        for layer, lowered in _KERNELS.items():
            if computes_as(module, layer):
                return lowered(module, self._gpu)
        return None

    def _matrices(self, name: str, layer: Linear | Embedding) -> list[StoredMatrix]:
        """The parts of a layer's weight."""
        weight = StoredWeight.of(name, layer, self._plan)
        matrices = []
        for (rows, scheme), tensors in zip(weight.parts, weight.part_tensors, strict=True):
            matrix = StoredMatrix(rows, weight.columns, scheme, tensors, self._gpu)
            self.stored.update(zip(matrix.tensors, (one.name for one in tensors), strict=True))
            matrices.append(matrix)
        return matrices


_KERNELS: Mapping[type[Module], Callable[[Any, GPU], Module]] = {
    RMSNorm: GPURMSNorm,
    LayerNorm: GPULayerNorm,
    Activation: GPUActivation,
    GatedActivation: GPUGatedActivation,
}
"""Layers whose parameters stay as they are."""
