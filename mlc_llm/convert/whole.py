"""From a checkpoint to a complete model folder, in one step and whole or not at all.

A conversion that is cut leaves nothing, or, where that is wanted, what the next one goes on from.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.convert.chat_config import write_config
from mlc_llm.convert.planned_folder import planned_folder
from mlc_llm.convert.source import SourceModel
from mlc_llm.convert.weight import chosen_plan, plan_weights, resume_weights
from mlc_llm.convert.window_sizes import Sizes
from mlc_llm.errors import ConversionError, MLCError
from mlc_llm.files import write_atomically
from mlc_llm.home import expand_home
from mlc_llm.plugin import Plan
from mlc_llm.quantization import FLOAT_PLAN, plan
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.journal import JOURNAL_FILE
from mlc_llm.weights.partial import partial_folder, sole_maker
from mlc_llm.weights.paths import is_folder, shown_name
from mlc_llm.weights.scratch import scratch_folder

logger = logging.getLogger("mlc_llm")

Check = Callable[[ModelFolder], object]
"""Raises an MLCError where a model is not wanted, given its folder: configuration, tokenizer and
what tensors there will be, which cannot be read."""

_PLAIN = "LM"
"""The template of a model that was not trained to chat."""


def convert_source(
    source: str | Path,
    output: str | Path,
    *,
    quantization: str | Plan | None = None,
    default: str = FLOAT_PLAN,
    conv_template: str | None = None,
    sizes: Sizes | None = None,
    exist_ok: bool = False,
    progress: bool = False,
    registry: Registry | None = None,
    beside: Mapping[str, bytes] = MappingProxyType({}),
    check: Check | None = None,
    resumable: bool = False,
) -> Path:
    """Make a model folder of a checkpoint: weights, configuration, tokenizer, chat template.

    The folder appears when it is complete. Of several processes that make the same one, one
    converts and the others wait for it.

    Args:
        source: a GGUF file; a model in Hugging Face's layout, which is a folder with safetensors
            or ``pytorch_model.bin``; or ``HF://org/name``.
        output: the model folder, which must not exist or be empty.
        quantization: the quantisation's name or a plan. With None the weights of a GGUF file are
            kept as they are.
        default: the name of the quantisation for others then.
        conv_template: the conversation template's name; None for the model's own chat template,
            or ``LM`` where it has none.
        sizes: sizes of the windows and of a batch; None for the model's own.
        exist_ok: whether a model folder that is there already is taken as it is.
        progress: whether to show progress on stderr, when that is a terminal.
        registry: where formats, architecture and template are looked up; by default among the
            installed plugins.
        beside: more files of the folder, by their names.
        check: is asked before the weights are converted, which takes minutes; what it raises, this
            does.
        resumable: whether a conversion that is cut leaves its shards beside the output, for the
            next one to go on from. The output's name must then say all that decides what is made,
            such as the state of the source.

    Returns:
        The folder.

    Raises:
        ConversionError: the source is malformed or does not fit its architecture, the output is
            there already, or it could not be written.
        MLCError: as :func:`mlc_llm.convert.convert_weight` and :func:`mlc_llm.convert.gen_config`.
    """
    folder = expand_home(output, ConversionError, "The output")
    if _is_there(folder, exist_ok):
        return folder
    if isinstance(quantization, str):  # a wrong name is found before anything is fetched
        quantization = plan(quantization)
    registry = registry or default_registry()
    template = None if conv_template is None else registry.template(conv_template)
    model = SourceModel.open(source, progress=progress, registry=registry)
    if template is None and model.source.chat_template is None:
        logger.warning("%s has no chat template, and continues text: %s", model.source.path, _PLAIN)
        template = registry.template(_PLAIN)
    chosen = chosen_plan(quantization, model, default)
    with _writing(folder), scratch_folder(folder.parent) as scratch:
        config = scratch / "config"
        # What is wrong with the tokenizer shows before gigabytes are written.
        write_config(model, chosen, template, sizes or Sizes(), config)
        weights = plan_weights(model, chosen)
        if check is not None:
            with _of_source(config, model):
                check(planned_folder(config, weights))
        with sole_maker(folder):
            if _is_there(folder, exist_ok):  # another process made it while this one waited
                return folder
            with partial_folder(folder) if resumable else _new_folder(scratch / "model") as made:
                for name, content in beside.items():  # first: they say what is made
                    write_atomically(made / name, content)
                resume_weights(model, chosen, weights, made, kept=beside, progress=progress)
                for path in [*config.iterdir()]:
                    path.replace(made / path.name)
                _publish(made, folder)
    return folder


def _publish(made: Path, folder: Path) -> None:
    """Put a model folder that is complete into its place."""
    if folder.is_dir():
        folder.rmdir()
    (made / JOURNAL_FILE).unlink()
    made.rename(folder)


def _is_there(folder: Path, exist_ok: bool) -> bool:
    """Whether a model folder that may be taken as it is stands there already.

    Raises:
        ConversionError: something stands there that may not.
    """
    if not is_folder(folder, ConversionError):
        if folder.exists():
            raise _taken(folder, "a file")
        return False
    if exist_ok and (folder / CHAT_CONFIG_FILE).is_file():
        return True
    if any(folder.iterdir()):
        raise _taken(folder, "a folder that is not empty")
    return False


def _taken(folder: Path, what: str) -> ConversionError:
    return ConversionError(
        f"{shown_name(folder)} is {what}, and stays as it is. Choose another output, or remove it.",
        code="output-exists",
    )


@contextlib.contextmanager
def _of_source(config: Path, model: SourceModel) -> Iterator[None]:
    """Have errors name the checkpoint, and not the folder that is made of it."""
    try:
        yield
    except MLCError as error:
        message = str(error).replace(str(config), str(model.source.path))
        raise type(error)(message, code=error.code) from error


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    path.mkdir()
    yield path


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Make the folder's parent, and have the system's errors say what was written.

    Raises:
        ConversionError: it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        full = error.errno == errno.ENOSPC
        remedy = " Free some space and try again." if full else ""
        raise ConversionError(
            f"Writing {shown_name(folder)} failed: {error.strerror or error}.{remedy}",
            code="disk-full" if full else "file-unwritable",
        ) from error
