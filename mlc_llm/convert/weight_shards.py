"""The weights of a checkpoint, stored as planned, in shards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.convert.output import SHARD_PREFIX
from mlc_llm.convert.plan import PlannedWeight
from mlc_llm.convert.progress import progress_bar
from mlc_llm.convert.values import Advance, blocks, kept_blocks
from mlc_llm.errors import ConversionError, MLCError, QuantizationError
from mlc_llm.plugin import Architecture
from mlc_llm.quantization.packing import is_transposed, quantize_rows, to_floats
from mlc_llm.weights.journal import Journal
from mlc_llm.weights.manifest import Manifest
from mlc_llm.weights.shard_writer import ShardWriter
from mlc_llm.weights.shards import Shards

Array = npt.NDArray[np.generic]


def write_shards(
    weights: Sequence[PlannedWeight],
    architecture: Architecture,
    folder: Path,
    *,
    progress: bool,
    journal: Journal | None = None,
) -> Manifest:
    """Write weights into shards, and read those back.

    Args:
        weights: the weights.
        architecture: whose plugin makes them.
        folder: where to write; no file there is overwritten.
        progress: whether to show progress on stderr, when that is a terminal.
        journal: has the shards that are there already, which stay, and is told of each new one.

    Returns:
        The manifest, which is for the caller to write.

    Raises:
        ConversionError: a tensor cannot be read or stored, or what was written is damaged.
        OSError: writing failed.
    """
    there = 0 if journal is None else len(journal.shards)
    manifest = _write(weights, architecture, folder, progress, journal)
    _verify(folder, Manifest(manifest.shards[there:]), progress)
    return manifest


def _write(
    weights: Sequence[PlannedWeight],
    architecture: Architecture,
    folder: Path,
    progress: bool,
    journal: Journal | None,
) -> Manifest:
    total = sum(planned.read_nbytes for planned in weights)
    with (
        ShardWriter(folder, SHARD_PREFIX, journal=journal) as writer,
        progress_bar("Converting", total, shown=progress) as advance,
    ):
        for planned in weights:
            if all(writer.has(tensor.name) for tensor in planned.tensors):
                advance(planned.read_nbytes)
            else:
                _write_weight(planned, _stored(planned, architecture, advance), writer)
        nbytes = sum(planned.stored_nbytes for planned in weights)
        return writer.finish(
            {
                "ParamSize": sum(len(planned.tensors) for planned in weights),
                "ParamBytes": float(nbytes),
                "BitsPerParam": 8 * nbytes / max(1, sum(planned.weights for planned in weights)),
            }
        )


def _write_weight(
    planned: PlannedWeight, blocks: Iterable[list[Array]], writer: ShardWriter
) -> None:
    """Write what a weight is stored in, given that of its rows in blocks."""
    # The codes go to the disk block by block; the scales, which are few, wait for their turn.
    waiting: list[list[Array]] = [[] for _ in planned.tensors[1:]]

    def first() -> Iterator[Array]:
        for stored, *others in blocks:
            for queue, other in zip(waiting, others, strict=True):
                queue.append(other)
            yield stored

    for tensor, parts in zip(planned.tensors, (first(), *waiting), strict=True):
        shape = tuple(map(int, tensor.shape))
        if planned.scheme is not None and is_transposed(planned.scheme):
            parts = _transposed(parts, shape, tensor.dtype)
        writer.add(tensor.name, shape, tensor.dtype, parts)


def _stored(
    planned: PlannedWeight, architecture: Architecture, advance: Advance
) -> Iterator[list[Array]]:
    """What a weight is stored in, some rows at a time, rows first whatever the layout."""
    if planned.is_kept:
        yield from kept_blocks(planned, architecture, advance)
        return
    scheme, dtype = planned.scheme, planned.tensors[0].dtype
    for name, block in blocks(planned, architecture, advance):
        try:
            yield [to_floats(block, dtype)] if scheme is None else quantize_rows(block, scheme)
        except QuantizationError as error:
            message = f"{name} cannot be stored in {scheme or dtype}: {error}"
            raise ConversionError(message, code=error.code) from error


def _transposed(parts: Iterable[Array], shape: tuple[int, ...], dtype: str) -> Iterator[Array]:
    """A tensor of the layout ``columns``, gathered of blocks of rows."""
    whole, begin = np.empty(shape, dtype), 0
    for part in parts:
        whole[:, begin : begin + len(part)] = part.T
        begin += len(part)
    yield whole


def _verify(folder: Path, manifest: Manifest, progress: bool) -> None:
    """Read the shards back and compare their checksums with those of what was written."""
    total = sum(shard.nbytes for shard in manifest.shards)
    with progress_bar("Verifying", total, shown=progress) as advance:
        try:
            Shards(folder, manifest).verify(advance)
        except MLCError as error:
            raise ConversionError(f"What was written cannot be read back: {error}") from error
