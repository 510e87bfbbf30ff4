"""Converting a checkpoint's weights."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.convert.output import SHARD_PREFIX, WeightOutput, open_output
from mlc_llm.convert.plan import PlannedWeight, make_plan
from mlc_llm.convert.progress import progress_bar
from mlc_llm.convert.safetensors_file import CheckpointTensor
from mlc_llm.convert.source import SourceModel
from mlc_llm.errors import ConversionError, MLCError, QuantizationError
from mlc_llm.plugin.registry import Registry
from mlc_llm.quantization import Scheme, scheme
from mlc_llm.quantization.packing import quantize, row_blocks
from mlc_llm.weights.json_file import read_json_object
from mlc_llm.weights.manifest import Manifest
from mlc_llm.weights.shard_writer import ShardWriter
from mlc_llm.weights.shards import Shards

logger = logging.getLogger("mlc_llm")

READ_WEIGHTS = 1 << 20
"""Weights that are read at a time. This bounds the memory that a conversion takes."""

Array = npt.NDArray[np.generic]
Advance = Callable[[int], None]


def convert_weight(
    source: str | Path,
    quantization: str,
    output: str | Path,
    *,
    progress: bool = False,
    registry: Registry | None = None,
) -> Path:
    """Convert a checkpoint's weights to MLC's format.

    Reads and writes tensor by tensor, a few megabytes at a time. The output folder has its old
    weights until the new ones are complete and verified; if anything fails, it stays as it was.

    Args:
        source: a model in Hugging Face's layout with safetensors files: a folder or
            ``HF://org/name``.
        quantization: the quantisation's name, such as ``q4f16_1``.
        output: the model folder to write to; made if need be.
        progress: whether to show progress on stderr, when that is a terminal.
        registry: where the architecture is looked up; by default among the installed plugins.

    Returns:
        The output folder.

    Raises:
        QuantizationError: there is no quantisation of that name.
        ModelNotFoundError: there is no such source.
        HubError: the source could not be fetched.
        PluginError: there is no such architecture.
        ConversionError: the source is malformed or does not fit its architecture, a weight is not
            finite or too large for the dtype, or the output could not be written.
    """
    chosen = scheme(quantization)
    model = SourceModel.open(source, progress=progress, registry=registry)
    checkpoint = model.checkpoint()
    try:
        plan = make_plan(checkpoint, model.architecture, model.config, chosen)
    except ConversionError as error:
        raise ConversionError(f"{model.folder}: {error}") from error
    folder = Path(output).expanduser()
    with open_output(folder) as target:
        target.require(sum(t.stored_nbytes() for p in plan for t in p.stored(chosen)))
        manifest = _write(plan, chosen, target, progress)
        _verify(target, manifest, progress)
        target.commit(manifest)
    _warn_of_other_config(folder, quantization)
    return folder


def _write(
    plan: list[PlannedWeight], scheme: Scheme, target: WeightOutput, progress: bool
) -> Manifest:
    total = sum(source.end - source.begin for planned in plan for source in planned.sources)
    with (
        ShardWriter(target.staging, SHARD_PREFIX) as writer,
        progress_bar("Converting", total, shown=progress) as advance,
    ):
        for planned in plan:
            if planned.quantized:
                _write_quantized(planned, scheme, writer, advance)
            else:
                [record] = planned.stored(scheme)
                blocks = (
                    _cast(name, block, record.dtype) for name, block in _read(planned, advance)
                )
                writer.add(record.name, record.shape, record.dtype, blocks)
        records = [record for planned in plan for record in planned.stored(scheme)]
        nbytes = sum(record.stored_nbytes() for record in records)
        return writer.finish(
            {
                "ParamSize": len(records),
                "ParamBytes": float(nbytes),
                "BitsPerParam": 8 * nbytes / max(1, sum(planned.weights for planned in plan)),
            }
        )


def _write_plain(
    planned: PlannedWeight, scheme: Scheme, writer: ShardWriter, advance: Advance
) -> None:
    [record] = planned.stored(scheme)
    blocks = (_cast(name, block, record.dtype) for name, block in _read(planned, advance))
    writer.add(record.name, record.shape, record.dtype, blocks)


def _write_quantized(
    planned: PlannedWeight, scheme: Scheme, writer: ShardWriter, advance: Advance
) -> None:
    codes, scales = planned.stored(scheme)
    # The codes go to the disk block by block; the scales, an eighth of them, wait for their turn.
    waiting: list[Array] = []

    def blocks() -> Iterator[Array]:
        for name, block in _read(planned, advance):
            try:
                q_weight, q_scale = quantize(block, scheme)
            except QuantizationError as error:
                raise ConversionError(f"{name} cannot be quantised: {error}") from error
            waiting.append(q_scale)
            yield q_weight

    writer.add(codes.name, codes.shape, codes.dtype, blocks())
    writer.add(scales.name, scales.shape, scales.dtype, waiting)


def _read(
    planned: PlannedWeight, advance: Advance
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The rows of a parameter's sources, one after the other, each block with its source's name."""
    for source in planned.sources:
        rows = source.shape[0]
        row_bytes = (source.end - source.begin) // max(1, rows)
        for some in row_blocks(rows, math.prod(source.shape[1:]), READ_WEIGHTS):
            block = source.read(some)
            _require_finite(source, block)
            yield source.name, block
            advance(row_bytes * len(block))


def _require_finite(source: CheckpointTensor, block: npt.NDArray[np.float32]) -> None:
    if not np.isfinite(block).all():
        raise ConversionError(
            f"{source.name} in {source.file} holds NaN or infinity: the checkpoint is damaged."
        )


def _cast(name: str, block: npt.NDArray[np.float32], dtype: str) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        cast: Array = block.astype(dtype)
    if not np.isfinite(cast).all():
        raise ConversionError(
            f"{name} holds {np.abs(block).max():g}, which is too large for {dtype}. "
            "Choose a quantization whose dtype is float32."
        )
    return cast


def _verify(target: WeightOutput, manifest: Manifest, progress: bool) -> None:
    """Read the shards back and compare their checksums with those of what was written."""
    total = sum(shard.nbytes for shard in manifest.shards)
    with progress_bar("Verifying", total, shown=progress) as advance:
        try:
            Shards(target.staging, manifest).verify(advance)
        except MLCError as error:
            raise ConversionError(f"What was written cannot be read back: {error}") from error


def _warn_of_other_config(folder: Path, quantization: str) -> None:
    config = folder / CHAT_CONFIG_FILE
    if not config.is_file():
        return
    # A configuration that cannot be read is for whoever opens the folder to report.
    with contextlib.suppress(ConversionError):
        found = read_json_object(config, ConversionError).get("quantization")
        if found != quantization:
            logger.warning(
                "%s is for the quantization %s, and the weights are now %s: run gen_config again",
                config,
                found,
                quantization,
            )
