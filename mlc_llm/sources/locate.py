"""From what a user names to the checkpoint there, of whatever format it is."""

from __future__ import annotations

import logging
from pathlib import Path

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.errors import ConversionError, MLCError, ModelNotFoundError
from mlc_llm.home import expand_home
from mlc_llm.plugin import Source, SourceFormat
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.sources.folder import CONFIG_FILE
from mlc_llm.sources.foreign import what_it_has_instead
from mlc_llm.sources.links import refuse_links_out
from mlc_llm.weights.locate import resolve_model
from mlc_llm.weights.paths import is_file, is_folder, shown_name

logger = logging.getLogger("mlc_llm")


def open_source(
    source: str | Path, *, progress: bool = False, registry: Registry | None = None
) -> Source:
    """Find a checkpoint and open it with the first format that recognises it.

    Args:
        source: a file such as ``model.gguf``, a folder, or ``HF://org/name``.
        progress: whether to show a download's progress on stderr, when that is a terminal.
        registry: where formats and architectures are looked up; by default among the installed
            plugins.

    Raises:
        ModelNotFoundError: there is no such file or folder.
        HubError: it could not be fetched.
        ConversionError: it is of no known format, or is incomplete or damaged.
        PluginError: no architecture has the name that it gives.
    """
    registry = registry or default_registry()
    path = _located(source, progress=progress)
    if is_folder(path, ConversionError):
        refuse_links_out(path)
    found = format_of(path, registry)
    if found is None:
        raise _unrecognized(path, registry.source_formats())
    return _opened(found, path, registry)


def format_of(path: Path, registry: Registry) -> SourceFormat | None:
    """The first format that recognises a file or folder; None where none does."""
    formats = registry.source_formats()
    return next((one for one in formats if _recognizes(one, path)), None)


def _recognizes(one: SourceFormat, path: Path) -> bool:
    """Whether a format recognises a file or folder; one that fails does not, and is warned of."""
    try:
        return one.recognizes(path)
    except MLCError:
        raise
    except Exception as error:
        logger.warning("The source %r failed: %s: %s", one.name, type(error).__name__, error)
        return False


def _opened(one: SourceFormat, path: Path, registry: Registry) -> Source:
    """The checkpoint that a format opens, with a config that names its architecture."""
    try:
        source = one.open(path, registry)
        named = source.config.get("model_type")
    except MLCError:
        raise
    except Exception as error:
        raise ConversionError(
            f"{shown_name(path)} cannot be opened as {one.description}, by the source "
            f"{one.name!r}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(named, str):
        raise ConversionError(
            f"{shown_name(path)} does not say the model_type, such as 'llama'.",
            code="source-config-invalid",
        )
    return source


def _located(source: str | Path, *, progress: bool) -> Path:
    """The file or folder that is named."""
    named = expand_home(source, ModelNotFoundError, "The source")
    if named.name != CHAT_CONFIG_FILE and is_file(named, ModelNotFoundError):
        return named
    return resolve_model(source, progress=progress)


def _unrecognized(path: Path, formats: list[SourceFormat]) -> ConversionError:
    known = "; ".join(one.description for one in formats) or "none"
    if not is_folder(path, ConversionError):
        return ConversionError(
            f"{shown_name(path)} is of no format that is read. Known: {known}.",
            code="source-unknown",
        )
    if not is_file(path / CONFIG_FILE, ConversionError):
        what = (
            f"it is a model folder in MLC's format already ({CHAT_CONFIG_FILE})"
            if is_file(path / CHAT_CONFIG_FILE, ConversionError)
            else f"a model in Hugging Face's layout has a {CONFIG_FILE}"
        )
        return ConversionError(
            f"{path} has no {CONFIG_FILE}: {what}.{what_it_has_instead(path)}",
            code="source-config-missing",
        )
    return ConversionError(
        f"{path} holds no weights that are read: {known}.{what_it_has_instead(path)}",
        code="weights-missing",
    )
