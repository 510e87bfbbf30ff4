"""Converting a checkpoint's weights."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.convert.output import open_output, require_room
from mlc_llm.convert.own_types import own_plan
from mlc_llm.convert.plan import PlannedWeight, make_plan, require_tensors
from mlc_llm.convert.progress import progress_bar
from mlc_llm.convert.source import SourceModel
from mlc_llm.convert.values import require_equal_copies
from mlc_llm.convert.weight_shards import write_shards
from mlc_llm.errors import ConversionError
from mlc_llm.files import read_json_object, write_atomically
from mlc_llm.home import expand_home
from mlc_llm.model.finer_weights import FINER, with_finer_weights
from mlc_llm.plugin import Plan
from mlc_llm.quantization import FLOAT_PLAN, PLAN_FIELDS, folder_fields, plan
from mlc_llm.registry.registry import Registry
from mlc_llm.weights.journal import Journal
from mlc_llm.weights.manifest import MANIFEST_FILE
from mlc_llm.weights.sizes import size_text

logger = logging.getLogger("mlc_llm")

_GROWTH = 1.5
"""How many times its bytes in the file a weight may take without a remark."""


def convert_weight(
    source: str | Path,
    quantization: str | Plan | None,
    output: str | Path,
    *,
    progress: bool = False,
    registry: Registry | None = None,
) -> Path:
    """Convert a checkpoint's weights to MLC's format.

    Reads and writes tensor by tensor, most of them a few megabytes at a time. The output folder has
    its old weights until the new ones are complete and verified; if anything fails, it stays as it
    was.

    Args:
        source: a GGUF file; a model in Hugging Face's layout, which is a folder with safetensors
            or ``pytorch_model.bin``; or ``HF://org/name``.
        quantization: the quantisation's name, such as ``q4f16_1``, or a plan. With None the
            weights of a GGUF file are kept as they are, and others are quantised to
            :data:`~mlc_llm.quantization.FLOAT_PLAN`.
        output: the model folder to write to; made if need be.
        progress: whether to show progress on stderr, when that is a terminal.
        registry: where formats and architectures are looked up; by default among the installed
            plugins.

    Returns:
        The output folder.

    Raises:
        QuantizationError: there is no quantisation of that name, or weights cannot be quantised to
            a scheme of the plan.
        ModelNotFoundError: there is no such source.
        HubError: the source could not be fetched.
        PluginError: there is no such architecture.
        ConversionError: the source is malformed or does not fit its architecture, a weight is not
            finite or too large for the dtype, or the output could not be written.
    """
    if isinstance(quantization, str):  # a wrong name is found before anything is fetched
        quantization = plan(quantization)
    model = SourceModel.open(source, progress=progress, registry=registry)
    chosen = chosen_plan(quantization, model)
    folder = expand_home(output, ConversionError, "The output")
    weights = plan_weights(model, chosen)
    _check_before_writing(model, chosen, weights)
    with open_output(folder) as target:
        require_room(target.folder, _stored_nbytes(weights))
        target.commit(write_shards(weights, model.architecture, target.staging, progress=progress))
    _warn_of_other_config(folder, chosen)
    return folder


def chosen_plan(quantization: Plan | None, model: SourceModel, default: str = FLOAT_PLAN) -> Plan:
    """The plan that was asked for, or else the model's own, with the schemes of all weights.

    Args:
        quantization: the plan; None for the types that a model has, if it keeps them.
        model: the model.
        default: the name of the quantisation for one that does not.

    Raises:
        ConversionError: the tensors cannot be listed, or do not fit the config.
    """
    if quantization is None and model.source.keeps_types:
        with _named(model):
            return own_plan(model.checkpoint(), model.architecture, model.config)
    chosen = quantization or plan(default)
    if chosen.name != FINER:
        return chosen
    with _named(model):
        require_tensors(model.checkpoint(), model.architecture, model.config)
    return with_finer_weights(chosen, model.architecture.module(model.config))


def plan_weights(model: SourceModel, chosen: Plan) -> list[PlannedWeight]:
    """What will be written of a model's weights, without their values.

    Args:
        model: the model.
        chosen: how to store them.

    Raises:
        ConversionError: the tensors are not those of the architecture.
        QuantizationError: weights cannot be quantised to a scheme of the plan.
    """
    with _named(model):
        return make_plan(model.checkpoint(), model.architecture, model.config, chosen)


def resume_weights(
    model: SourceModel,
    chosen: Plan,
    weights: Sequence[PlannedWeight],
    folder: Path,
    *,
    kept: Iterable[str] = (),
    progress: bool = False,
) -> None:
    """Write the weights of a model into a folder of its own, in which it may have begun before.

    Of what is there, whole shards of these weights are taken over, and all else is deleted. Where
    this is cut, its journal and its shards stay.

    Args:
        model: the model.
        chosen: how to store them.
        weights: what :func:`plan_weights` makes of both.
        folder: the folder, which exists, and which no other process writes to.
        kept: names of files in it that stay as they are.
        progress: whether to show progress on stderr, when that is a terminal.

    Raises:
        ConversionError: as :func:`convert_weight`.
        OSError: writing failed.
    """
    _check_before_writing(model, chosen, weights)
    journal, total = Journal.read(folder), _stored_nbytes(weights)
    tensors = [
        (tensor.name, tuple(map(int, tensor.shape)), tensor.dtype)
        for planned in weights
        for tensor in planned.tensors
    ]
    begun = bool(journal.shards)
    with progress_bar("Verifying", journal.nbytes, shown=progress and begun) as advance:
        journal.keep_whole(tensors, kept, advance)
    if journal.shards:
        logger.info("%s of %s are there already.", size_text(journal.nbytes), size_text(total))
    require_room(folder, total - journal.nbytes)
    manifest = write_shards(weights, model.architecture, folder, progress=progress, journal=journal)
    write_atomically(folder / MANIFEST_FILE, manifest.dump())


def _stored_nbytes(weights: Iterable[PlannedWeight]) -> int:
    return sum(planned.stored_nbytes for planned in weights)


def _check_before_writing(
    model: SourceModel, chosen: Plan, weights: Sequence[PlannedWeight]
) -> None:
    """Raise an error for what contradicts itself, and warn of what is lost or grows."""
    with _named(model):
        require_equal_copies(model.checkpoint(), model.architecture, model.config)
    _warn_of_rounding_again(model, weights, chosen)
    _warn_of_growing(model, weights)


@contextlib.contextmanager
def _named(model: SourceModel) -> Iterator[None]:
    """Begin the message of a ConversionError with what is converted."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{model.source.path}: {error}", code=error.code) from error


def _warn_of_rounding_again(
    model: SourceModel, weights: Sequence[PlannedWeight], chosen: Plan
) -> None:
    """Say that weights in integer codes become other codes, which loses more."""
    coded = {
        source.dtype
        for planned in weights
        if planned.scheme is not None and not planned.scheme.is_float and not planned.is_kept
        for source in planned.sources
        if source.scheme is not None and not source.scheme.is_float
    }
    if coded:
        logger.warning(
            "%s has weights in %s, which are rounded again to %s; without a quantization they are "
            "kept as they are",
            model.source.path,
            ", ".join(sorted(coded)),
            chosen.name,
        )


def _warn_of_growing(model: SourceModel, weights: Sequence[PlannedWeight]) -> None:
    """Say that weights take far more memory than in the file, though nothing is lost."""
    growing = {
        source.dtype
        for planned in weights
        if planned.is_kept and planned.stored_nbytes > _GROWTH * planned.read_nbytes
        for source in planned.sources
    }
    if growing:
        logger.warning(
            "%s has weights in %s, which are kept in more bits: they take about twice the memory",
            model.source.path,
            ", ".join(sorted(growing)),
        )


def _warn_of_other_config(folder: Path, plan: Plan) -> None:
    config = folder / CHAT_CONFIG_FILE
    if not config.is_file():
        return
    # A configuration that cannot be read is for whoever opens the folder to report.
    with contextlib.suppress(ConversionError):
        found = read_json_object(config, ConversionError)
        fields = folder_fields(plan)
        if any(found.get(name) != fields.get(name) for name in PLAN_FIELDS):
            logger.warning(
                "%s is for the quantization %s, and the weights are now %s: run gen_config again",
                config,
                found.get("quantization"),
                plan.name,
            )
