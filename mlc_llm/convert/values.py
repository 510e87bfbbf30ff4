"""The values of the parameters that are converted: read from the checkpoint, or made of that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from mlc_llm.convert.plan import PlannedWeight, described
from mlc_llm.errors import ConversionError
from mlc_llm.plugin import Architecture, ModelConfig, Scheme, SourceTensor
from mlc_llm.plugin.source import Rows
from mlc_llm.quantization.codes import pack_codes
from mlc_llm.quantization.packing import row_blocks

READ_WEIGHTS = 1 << 20
"""Weights that are read at a time. This bounds the memory that a conversion takes, but for
parameters that are made by a function: those are whole in memory, one at a time."""

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Advance = Callable[[int], None]


def blocks(
    planned: PlannedWeight, architecture: Architecture, advance: Advance
) -> Iterator[tuple[str, Floats]]:
    """The rows of a parameter, some at a time, each block with the name of what it comes from.

    Args:
        planned: the parameter.
        architecture: whose plugin makes it.
        advance: called with the bytes of the checkpoint that were read since the last call.

    Raises:
        ConversionError: a tensor cannot be read or is not finite, or the plugin cannot make the
            parameter, or makes it with another shape than its module has.
    """
    if planned.make is None:
        for source in planned.sources:
            for block in _source_blocks(source):
                yield source.name, block
                advance(block.size * source.nbytes // max(1, math.prod(source.shape)))
        return
    made = _made(planned, architecture)
    for some in _pieces(made.shape):
        yield planned.name, made[some]
    advance(planned.read_nbytes)


def kept_blocks(
    planned: PlannedWeight, architecture: Architecture, advance: Advance
) -> Iterator[list[Array]]:
    """What a weight is stored in, some rows at a time, where the checkpoint has the codes already.

    Args:
        planned: the weight, which is kept.
        architecture: whose plugin orders its rows.
        advance: called with the bytes of the checkpoint that were read since the last call.

    Raises:
        ConversionError: a tensor cannot be read or is not finite, or the plugin cannot order it.
    """
    assert planned.scheme is not None
    if planned.make is None:
        for source in planned.sources:
            for some in _pieces(source.shape):
                stored = _stored_codes(source, planned.scheme, some)
                yield stored
                advance(len(stored[0]) * source.nbytes // max(1, source.shape[0]))
        return
    sources = [_stored_codes(source, planned.scheme, ...) for source in planned.sources]
    try:
        made = [np.asarray(planned.make(*parts)) for parts in zip(*sources, strict=True)]
    except Exception as error:  # whatever the function does wrong, the message says whose it is
        raise _wrong(planned, architecture, f"cannot be ordered: {error}") from error
    shapes = [part.shape for part in made]
    if shapes != [tensor.shape for tensor in planned.tensors]:
        raise _wrong(planned, architecture, f"is stored in tensors of the shapes {shapes}")
    yield made
    advance(planned.read_nbytes)


def require_equal_copies(
    checkpoint: Mapping[str, SourceTensor], architecture: Architecture, config: ModelConfig
) -> None:
    """Check the tensors that a checkpoint has twice, of which one is not converted.

    Raises:
        ConversionError: one differs from what it should repeat.
    """
    for name, original in architecture.copies(config).items():
        if name not in checkpoint:
            continue
        if original not in checkpoint or not _equal(checkpoint[name], checkpoint[original]):
            raise ConversionError(
                f"{name} differs from {original}, though according to config.json they are one "
                "tensor. Is tie_word_embeddings in config.json right?",
                code="head-not-tied",
            )


def _equal(one: SourceTensor, other: SourceTensor) -> bool:
    if one.shape != other.shape:
        return False
    both = zip(_source_blocks(one), _source_blocks(other), strict=True)
    return all(np.array_equal(a, b) for a, b in both)


def _source_blocks(source: SourceTensor) -> Iterator[Floats]:
    for some in _pieces(source.shape):
        block = source.read(some)
        _require_finite(source, block)
        yield block


def _stored_codes(source: SourceTensor, scheme: Scheme, rows: Rows) -> list[Array]:
    stored = source.read_codes(rows)
    return [*pack_codes(stored.codes, scheme), *stored.factors]


def _pieces(shape: tuple[int, ...]) -> Iterator[Rows]:
    """Indices of some rows at a time, which cover an array; all of one that has no axes."""
    return row_blocks(shape[0], math.prod(shape[1:]), READ_WEIGHTS) if shape else iter((...,))


def _made(planned: PlannedWeight, architecture: Architecture) -> Floats:
    assert planned.make is not None
    sources = []
    for source in planned.sources:
        sources.append(source.read())
        _require_finite(source, sources[-1])
    try:
        made = np.asarray(planned.make(*sources))
    except Exception as error:  # whatever the function does wrong, the message says whose it is
        raise _wrong(planned, architecture, f"cannot be made: {error}") from error
    if made.shape != planned.shape:
        raise _wrong(
            planned, architecture, f"has the shape {made.shape}; its module's is {planned.shape}"
        )
    if not np.issubdtype(made.dtype, np.floating) or not np.isfinite(made).all():
        raise _wrong(planned, architecture, "does not consist of finite numbers")
    return made.astype(np.float32, copy=False)


def _wrong(planned: PlannedWeight, architecture: Architecture, what: str) -> ConversionError:
    return ConversionError(
        f"{planned.name}, which the plugin of the architecture {architecture.name!r} makes of "
        f"{described(planned.sources)}, {what}.",
        code="architecture-invalid",
    )


def _require_finite(source: SourceTensor, block: Floats) -> None:
    if not np.isfinite(block).all():
        raise ConversionError(
            f"{source.name} in {source.file} holds NaN or infinity: the checkpoint is damaged.",
            code="weight-not-finite",
        )
