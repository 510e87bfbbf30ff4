"""Any model as a model folder: a checkpoint is converted once, into the cache.

A converted model is known by its files' places, sizes and times, and by the code that converts. So
a checkpoint that changed is converted again, and so is every one after an update that may convert
otherwise. :mod:`mlc_llm.weights.stores` lists what is in the cache and removes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.convert.whole import convert_source
from mlc_llm.errors import ConversionError
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.source_digest import source_digest
from mlc_llm.weights.locate import model_name, resolve_model
from mlc_llm.weights.paths import is_file, is_folder
from mlc_llm.weights.stores.converted import SOURCE_FILE, converted_root

logger = logging.getLogger("mlc_llm")

_CONVERTING = ("mlc_llm.convert", "mlc_llm.quantization", "mlc_llm.sources", "mlc_llm.model")
"""Packages whose code decides what a conversion writes."""

_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")


def model_folder(
    model: str | Path, *, progress: bool = False, registry: Registry | None = None
) -> Path:
    """The model folder of a model, which is converted first if it is a checkpoint.

    Args:
        model: what :func:`~mlc_llm.weights.locate.resolve_model` takes.
        progress: whether to show progress on stderr, when that is a terminal.
        registry: where formats and architectures are looked up; by default among the installed
            plugins.

    Returns:
        A folder. One that is neither a model folder nor a checkpoint is returned as it is: whoever
        opens it says what it lacks.

    Raises:
        ModelNotFoundError: there is no such model.
        HubError: it could not be fetched.
        ConversionError: the checkpoint is damaged, of a kind that is not read, or there is too
            little disk for it.
        MLCError: as :func:`mlc_llm.convert.convert_source`.
    """
    registry = registry or default_registry()
    path = resolve_model(model, progress=progress, registry=registry)
    if not _is_checkpoint(path, registry):
        return path
    folder = converted_root() / _key(path)
    if is_file(folder / CHAT_CONFIG_FILE, ConversionError):
        return folder
    logger.info("Converting %s. This is done once.", path)
    begin = time.monotonic()
    source = json.dumps({"source": model_name(path), "bytes": sum(map(_size, _files(path)))})
    convert_source(
        path,
        folder,
        exist_ok=True,
        progress=progress,
        registry=registry,
        beside={SOURCE_FILE: source.encode()},
    )
    logger.info("Converted in %.1f s.", time.monotonic() - begin)
    return folder


def _is_checkpoint(path: Path, registry: Registry) -> bool:
    """Whether a path is what a format reads, and not a model folder."""
    if is_folder(path, ConversionError) and is_file(path / CHAT_CONFIG_FILE, ConversionError):
        return False
    return any(one.recognizes(path) for one in registry.source_formats())


def _key(path: Path) -> str:
    """What a converted model is called in the cache."""
    digest = hashlib.sha256(source_digest(_CONVERTING).encode())
    for file in _files(path):
        # A link in the hub's cache leads to a file that is named by what it holds.
        info = file.stat()
        digest.update(
            f"{file.resolve()}\0{info.st_size}\0{info.st_mtime_ns}\0".encode(errors="replace")
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model_name(path)).strip("-.")[:80]
    return f"{name}-{digest.hexdigest()[:16]}"


def _files(path: Path) -> Iterator[Path]:
    """The files of a checkpoint: those in its folder, or all parts of its GGUF file."""
    if path.is_dir():
        yield from sorted(file for file in path.iterdir() if file.is_file())
    elif _PART.search(path.name):
        yield from sorted(path.parent.glob(f"{_PART.sub('', path.name)}-*-of-*.gguf"))
    else:
        yield path


def _size(path: Path) -> int:
    return path.stat().st_size
