"""Any model as a model folder: a checkpoint is converted once, into the cache.

A converted model is known by its files' places, sizes and times, and by the code that converts. So
a checkpoint that changed is converted again, and so is every one after an update that may convert
otherwise. One that is cut goes on where it was when the same is asked for again.
:mod:`mlc_llm.weights.stores` lists what is in the cache and removes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.errors import ConversionError
from mlc_llm.model.finer_weights import FINER_SCHEME
from mlc_llm.plugin import Device
from mlc_llm.quantization import FLOAT_PLAN, plan
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.source_digest import source_digest
from mlc_llm.sources.gguf_parts import model_parts
from mlc_llm.sources.locate import format_of
from mlc_llm.weights.folder import ModelFolder
from mlc_llm.weights.locate import model_name
from mlc_llm.weights.paths import is_file, is_folder
from mlc_llm.weights.stores.converted import SOURCE_FILE, converted_root

if TYPE_CHECKING:
    from mlc_llm.convert.whole import Check

logger = logging.getLogger("mlc_llm")

_CONVERTING = ("mlc_llm.convert", "mlc_llm.quantization", "mlc_llm.sources", "mlc_llm.model")
"""Packages whose code decides what a conversion writes."""
OLDER_FLOAT_PLAN = "q4f16_1"
"""What checkpoints in floats are quantised to for devices without the kernels of the default."""


def is_checkpoint(path: Path, registry: Registry | None = None) -> bool:
    """Whether a folder or file is what a format of checkpoints reads, and not a model folder.

    Args:
        path: the folder or file.
        registry: where the formats are looked up; by default among the installed plugins.
    """
    if is_folder(path, ConversionError) and is_file(path / CHAT_CONFIG_FILE, ConversionError):
        return False
    return format_of(path, registry or default_registry()) is not None


def conversion_of(path: Path, device: Device) -> Path | None:
    """The model folder that a checkpoint was converted to before, or None.

    Args:
        path: the checkpoint.
        device: where the model is to run.
    """
    folder = _place(path, _default_plan(device))
    return folder if _is_whole(folder) else None


def converted(
    path: Path,
    device: Device,
    *,
    progress: bool = False,
    registry: Registry | None = None,
    check: Check | None = None,
) -> Path:
    """The model folder that a checkpoint is converted to, unless that was done before.

    Args:
        path: the checkpoint.
        device: where the model is to run. A checkpoint in floats is quantised to what it computes
            with.
        progress: whether to show progress on stderr, when that is a terminal.
        registry: where formats and architectures are looked up; by default among the installed
            plugins.
        check: is asked before a conversion begins; see :func:`mlc_llm.convert.convert_source`.

    Raises:
        ConversionError: the checkpoint is damaged, of a kind that is not read, or there is too
            little disk for it.
        MLCError: as :func:`mlc_llm.convert.convert_source`.
    """
    default = _default_plan(device)
    folder = _place(path, default)
    if _is_whole(folder):
        return folder
    from mlc_llm.convert.whole import convert_source

    begin = time.monotonic()

    def check_and_say(planned: ModelFolder) -> None:
        if check is not None:
            check(planned)
        logger.info("Converting %s. This is done once.", path)

    source = {"source": model_name(path), "bytes": sum(map(_size, _files(path)))}
    convert_source(
        path,
        folder,
        default=default,
        exist_ok=True,
        progress=progress,
        registry=registry,
        beside={SOURCE_FILE: json.dumps(source).encode()},
        check=check_and_say,
        resumable=True,
    )
    logger.info("Converted in %.1f s.", time.monotonic() - begin)
    return folder


def _default_plan(device: Device) -> str:
    """The quantisation of a checkpoint in floats: the best one that a device computes with."""
    schemes = {*plan(FLOAT_PLAN).all_schemes(), FINER_SCHEME}
    return FLOAT_PLAN if all(map(device.has_scheme, schemes)) else OLDER_FLOAT_PLAN


def _is_whole(folder: Path) -> bool:
    return is_file(folder / CHAT_CONFIG_FILE, ConversionError)


def _place(path: Path, default: str) -> Path:
    """Where a checkpoint's model folder is in the cache, or will be."""
    digest = hashlib.sha256(f"{source_digest(_CONVERTING)}\0{default}\0".encode())
    for file in _files(path):
        # A link in the hub's cache leads to a file that is named by what it holds.
        info = file.stat()
        digest.update(
            f"{file.resolve()}\0{info.st_size}\0{info.st_mtime_ns}\0".encode(errors="replace")
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model_name(path)).strip("-.")[:80]
    return converted_root() / f"{name}-{digest.hexdigest()[:16]}"


def _files(path: Path) -> Iterator[Path]:
    """The files of a checkpoint: those in its folder, or all parts of its GGUF file."""
    if path.is_dir():
        yield from sorted(file for file in path.iterdir() if file.is_file())
    else:
        yield from model_parts(path)


def _size(path: Path) -> int:
    return path.stat().st_size
