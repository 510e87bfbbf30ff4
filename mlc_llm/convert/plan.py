"""What a conversion writes: every parameter of the model, what it is made of, how it is stored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlc_llm.errors import ConversionError
from mlc_llm.model.layers import Embedding, Linear
from mlc_llm.model.module import Module, computes_as, named_modules, named_parameters
from mlc_llm.model.stored import StoredWeight, stored_weights
from mlc_llm.plugin import Architecture, ModelConfig, Plan, Scheme, SourceTensor, Weight
from mlc_llm.plugin.scheme import StoredTensor, stored_tensors
from mlc_llm.quantization.packing import is_transposed, require_quantizable
from mlc_llm.sources.foreign import refuse_quantized_tensors
from mlc_llm.weights.paths import listed, shown_name


@dataclass(frozen=True)
class PlannedWeight:
    """A parameter of the model, or a part of one that is stored by itself.

    Args:
        name: the parameter's name.
        sources: the checkpoint's tensors that it is made of.
        make: makes it of their values; None to join them along the first axis.
        shape: its shape.
        scheme: how a matrix of weights is stored; None for another parameter, such as a norm's.
        tensors: what it is stored in.
        orders_rows: whether ``make`` only orders rows.
    """

    name: str
    sources: tuple[SourceTensor, ...]
    make: Callable[..., Any] | None
    shape: tuple[int, ...]
    scheme: Scheme | None
    tensors: tuple[StoredTensor, ...]
    orders_rows: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether the checkpoint has it in these integer codes already, which are kept."""
        scheme = self.scheme
        return (
            scheme is not None
            and not scheme.is_float
            and not is_transposed(scheme)
            and (self.make is None or self.orders_rows)
            and all(source.scheme == scheme for source in self.sources)
        )

    @property
    def weights(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def read_nbytes(self) -> int:
        """Bytes of the checkpoint that are read for it."""
        return sum(source.nbytes for source in self.sources)

    @property
    def stored_nbytes(self) -> int:
        """Bytes that it is stored in."""
        return sum(
            math.prod(map(int, tensor.shape)) * np.dtype(tensor.dtype).itemsize
            for tensor in self.tensors
        )


def make_plan(
    checkpoint: Mapping[str, SourceTensor],
    architecture: Architecture,
    config: ModelConfig,
    plan: Plan,
) -> list[PlannedWeight]:
    """Match a checkpoint with an architecture's weight map, its module and a plan.

    Raises:
        ConversionError: the checkpoint lacks a tensor, has one that is not known, or one of a
            wrong shape; the architecture contradicts itself, or the plan the architecture.
        QuantizationError: the plan has a scheme that weights cannot be quantised to.
    """
    require_tensors(checkpoint, architecture, config)
    weights = architecture.weights(config)
    module = architecture.module(config)
    _check_names(checkpoint, architecture, config, weights)
    _check_map(architecture, weights, module)
    _check_exceptions(plan, module)
    shapes = expected_shapes(architecture, config, module)
    matrices = {weight.name: weight for weight in stored_weights(module, plan)}
    dtypes = {name: p.dtype or plan.dtype for name, p in named_parameters(module).items()}
    planned: list[PlannedWeight] = []
    for weight in weights:
        sources = tuple(checkpoint[name] for name in weight.sources)
        for source in sources:
            source.require_readable()
        shape = shapes[weight.name]
        if weight.make is None:
            _check_joined(weight.name, sources, shape)
        if weight.name in matrices:
            planned += _matrix(weight, sources, shape, matrices[weight.name])
        else:
            stored = StoredTensor(weight.name, shape, dtypes[weight.name])
            planned.append(PlannedWeight(weight.name, sources, weight.make, shape, None, (stored,)))
    for one in planned:
        if one.scheme is not None and not one.is_kept:
            require_quantizable(one.scheme)
    return planned


def expected_shapes(
    architecture: Architecture, config: ModelConfig, module: Module
) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters of an architecture's module by their names.

    A symbolic size takes the value of the configuration's field of the same name.
    """

    def number(size: int | str) -> int:
        value = getattr(config, size, None) if isinstance(size, str) else size
        if not isinstance(value, int):
            raise _contradiction(
                architecture, f"its module has the size {size}, which its config lacks"
            )
        return value

    return {
        name: tuple(map(number, parameter.shape))
        for name, parameter in named_parameters(module).items()
    }


def require_tensors(
    checkpoint: Mapping[str, SourceTensor], architecture: Architecture, config: ModelConfig
) -> None:
    """Compare a config with a checkpoint's tensors, before anything is made for each layer.

    Raises:
        ConversionError: the config asks for more than the tensors can be.
    """
    needless = architecture.copies(config)
    there = [name for name in checkpoint if name not in needless and not architecture.ignores(name)]
    try:
        config.require_tensors(len(there))
    except ValueError as error:
        raise ConversionError(
            f"its config does not fit its tensors: {error}. Is config.json its own?",
            code="source-config-invalid",
        ) from None


def _check_names(
    checkpoint: Iterable[str],
    architecture: Architecture,
    config: ModelConfig,
    weights: Sequence[Weight],
) -> None:
    there = set(checkpoint)
    needed = dict.fromkeys(name for weight in weights for name in weight.sources)
    unknown = sorted(there.difference(needed, architecture.copies(config)))
    left_over = [name for name in unknown if not architecture.ignores(name)]
    refuse_quantized_tensors(left_over)
    missing = [name for name in needed if name not in there]
    if missing:
        raise ConversionError(
            f"The checkpoint lacks {listed(missing)}, which the architecture "
            f"{architecture.name!r} needs. Is the checkpoint complete, and config.json its own?",
            code="tensor-missing",
        )
    if left_over:
        raise ConversionError(
            f"The checkpoint has {listed(left_over)}, which the architecture "
            f"{architecture.name!r} does not know. Converting would lose them: the model is "
            "probably of another architecture.",
            code="tensor-unknown",
        )


def _check_map(architecture: Architecture, weights: Sequence[Weight], module: Module) -> None:
    counts = Counter(weight.name for weight in weights)
    differing = sorted(set(counts) ^ set(named_parameters(module)))
    if differing:
        raise _contradiction(
            architecture, f"its weight map and its module differ in {listed(differing)}"
        )
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise _contradiction(architecture, f"its weight map has {listed(twice)} twice")


def _check_exceptions(plan: Plan, module: Module) -> None:
    parts = {
        f"{name}.weight": len(layer.parts) if isinstance(layer, Linear) else 1
        for name, layer in named_modules(module)
        if computes_as(layer, Linear) or computes_as(layer, Embedding)
    }
    unknown = [name for name in plan.exceptions if name not in parts]
    if unknown:
        raise ConversionError(
            f"The quantization {plan.name} says how {listed(unknown)} are stored, which are not "
            "weights of this model's linear layers or embeddings.",
            code="plan-mismatch",
        )
    for name in plan.exceptions:
        schemes = len(plan.schemes(name))
        if schemes not in (1, parts[name]):
            raise ConversionError(
                f"The quantization {plan.name} has {schemes} schemes for {name}, not one or one "
                f"for each of its parts ({parts[name]}).",
                code="plan-mismatch",
            )


def _check_joined(name: str, sources: Sequence[SourceTensor], expected: tuple[int, ...]) -> None:
    shapes = [source.shape for source in sources]
    if len(sources) == 1:
        [shape] = shapes
    elif not all(shapes) or len({shape[1:] for shape in shapes}) != 1:
        raise ConversionError(
            f"{name} is made of {listed([s.name for s in sources])}, whose "
            f"shapes {', '.join(map(str, shapes))} do not fit together.",
            code="shape-mismatch",
        )
    else:
        shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
    if shape != expected:
        raise ConversionError(
            f"{name} must have the shape {expected} according to config.json, but the checkpoint "
            f"gives {shape}: {described(sources)}.",
            code="shape-mismatch",
        )


def _matrix(
    weight: Weight,
    sources: tuple[SourceTensor, ...],
    shape: tuple[int, ...],
    stored: StoredWeight,
) -> Iterator[PlannedWeight]:
    """A matrix of weights, or each of its parts where they are stored in different schemes."""
    rows, columns = shape
    if len(stored.parts) == 1:
        [(_, scheme)] = stored.parts
        whole = tuple(stored_tensors(weight.name, ((rows, scheme),), columns))
        orders = weight.orders_rows
        yield PlannedWeight(weight.name, sources, weight.make, shape, scheme, whole, orders)
        return
    heights = [source.shape[0] for source in sources]
    wanted = [part_rows for part_rows, _ in stored.parts]
    if weight.make is not None or heights != wanted:
        how = "made by a function" if weight.make else f"joined of tensors of {heights} rows"
        raise ConversionError(
            f"The parts of {weight.name} cannot be stored in different schemes: they have "
            f"{wanted} rows, and the weight is {how}.",
            code="plan-mismatch",
        )
    for source, (part_rows, scheme), tensors in zip(
        sources, stored.parts, stored.part_tensors, strict=True
    ):
        part = (int(part_rows), columns)
        yield PlannedWeight(weight.name, (source,), None, part, scheme, tuple(tensors))


def described(sources: Iterable[SourceTensor]) -> str:
    """The checkpoint's tensors with their shapes, for an error's message."""
    return ", ".join(f"{shown_name(source.name)} {source.shape}" for source in sources)


def _contradiction(architecture: Architecture, what: str) -> ConversionError:
    return ConversionError(
        f"The plugin of the architecture {architecture.name!r} contradicts itself: {what}.",
        code="architecture-invalid",
    )
