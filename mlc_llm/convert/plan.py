"""What is to be written: every parameter of the MLC layout, and where it comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlc_llm.convert.safetensors_file import CheckpointTensor
from mlc_llm.errors import ConversionError
from mlc_llm.plugin import Architecture, ModelConfig, Weight
from mlc_llm.quantization import Scheme
from mlc_llm.weights.manifest import TensorRecord

_SHOWN = 5
"""How many names an error message lists."""


@dataclass(frozen=True)
class PlannedWeight:
    """One parameter of the MLC layout before quantisation.

    Args:
        name: its name.
        sources: the checkpoint's tensors, concatenated along the first axis.
        quantized: whether it is stored quantised.
    """

    name: str
    sources: tuple[CheckpointTensor, ...]
    quantized: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the concatenated sources."""
        rows = sum(source.shape[0] for source in self.sources)
        return (rows, *self.sources[0].shape[1:])

    @property
    def weights(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    def stored(self, scheme: Scheme) -> list[TensorRecord]:
        """The tensors that it becomes; their places in a shard are not known yet."""
        if not self.quantized:
            return [_record(self.name, self.shape, scheme.model_dtype)]
        stem = self.name.removesuffix(".weight")
        rows, columns = self.shape
        return [
            _record(f"{stem}.q_weight", (rows, scheme.words(columns)), scheme.storage_dtype),
            _record(f"{stem}.q_scale", (rows, scheme.groups(columns)), scheme.model_dtype),
        ]


def _record(name: str, shape: tuple[int, ...], dtype: str) -> TensorRecord:
    return TensorRecord(name, shape, dtype, shard="", offset=0, nbytes=0)


def make_plan(
    checkpoint: Mapping[str, CheckpointTensor],
    architecture: Architecture,
    config: ModelConfig,
    scheme: Scheme,
) -> list[PlannedWeight]:
    """Match a checkpoint with an architecture's weight map and with its module.

    Imports TVM: the shapes that the parameters must have are those of the module.

    Raises:
        ConversionError: the checkpoint lacks a tensor, has one that is not known, or one of a
            wrong shape; or the architecture contradicts itself.
    """
    weights = architecture.weights(config)
    _check_names(checkpoint, architecture, weights)
    plan = []
    for weight in weights:
        sources = tuple(checkpoint[name] for name in weight.sources)
        quantized = scheme.kind == "group" and weight.quantize and weight.name.endswith(".weight")
        planned = PlannedWeight(weight.name, sources, quantized)
        _check_sources(planned)
        plan.append(planned)
    _check_shapes(plan, architecture, config, scheme)
    return plan


def _check_names(
    checkpoint: Iterable[str], architecture: Architecture, weights: Sequence[Weight]
) -> None:
    there = set(checkpoint)
    needed = [name for weight in weights for name in weight.sources]
    missing = [name for name in needed if name not in there]
    if missing:
        raise ConversionError(
            f"The checkpoint lacks {_listed(missing)}, which the architecture "
            f"{architecture.name!r} needs. Is the checkpoint complete, and config.json its own?"
        )
    unknown = sorted(there.difference(needed))
    left_over = [name for name in unknown if not architecture.ignores(name)]
    if left_over:
        raise ConversionError(
            f"The checkpoint has {_listed(left_over)}, which the architecture "
            f"{architecture.name!r} does not know. Converting would lose them: the model is "
            "probably of another architecture."
        )


def _check_sources(planned: PlannedWeight) -> None:
    shapes = [source.shape for source in planned.sources]
    if not all(shapes) or len({shape[1:] for shape in shapes}) != 1:
        raise ConversionError(
            f"{planned.name} is made of {_listed([s.name for s in planned.sources])}, whose "
            f"shapes {', '.join(map(str, shapes))} do not fit together."
        )
    if planned.quantized and len(planned.shape) != 2:
        raise ConversionError(
            f"{planned.name} has the shape {planned.shape}; only matrices can be quantised."
        )


def _check_shapes(
    plan: Sequence[PlannedWeight],
    architecture: Architecture,
    config: ModelConfig,
    scheme: Scheme,
) -> None:
    expected = expected_shapes(architecture, config, scheme.model_dtype)
    names = {planned.name for planned in plan}
    if names != set(expected):
        raise ConversionError(
            f"The plugin of the architecture {architecture.name!r} contradicts itself: its weight "
            f"map and its module differ in {_listed(sorted(names ^ set(expected)))}."
        )
    for planned in plan:
        if planned.shape != expected[planned.name]:
            sources = ", ".join(f"{s.name} {s.shape}" for s in planned.sources)
            raise ConversionError(
                f"{planned.name} must have the shape {expected[planned.name]} according to "
                f"config.json, but the checkpoint gives {planned.shape}: {sources}."
            )


def expected_shapes(
    architecture: Architecture, config: ModelConfig, dtype: str
) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters of an architecture's module by their names.

    A symbolic dimension takes the value of the configuration's field of the same name.
    """
    return {
        name: tuple(
            size if isinstance(size, int) else int(getattr(config, size.name))
            for size in parameter.shape
        )
        for name, parameter in architecture.module(config, dtype).named_parameters()
    }


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
