"""Fetching a model from the hub, or finding it in the hub's cache."""

from __future__ import annotations

import glob
import json
import logging
import threading
from pathlib import Path
from typing import Any

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.errors import HubError, MLCError, ModelFolderError
from mlc_llm.host_memory import total_memory
from mlc_llm.weights.hub.access import HubAccess, reason, require_client, within_deadline
from mlc_llm.weights.hub.bars import bars
from mlc_llm.weights.hub.failure import NotCached, failure, not_cached
from mlc_llm.weights.hub.files import (
    Listing,
    RepositoryFile,
    Selection,
    folder_patterns,
    select,
)
from mlc_llm.weights.hub.reference import HubReference
from mlc_llm.weights.manifest import MANIFEST_FILE, OLDER_MANIFEST_FILE
from mlc_llm.weights.room import memory_problem, require_disk
from mlc_llm.weights.sizes import size_text
from mlc_llm.weights.verified import verify_once

logger = logging.getLogger("mlc_llm")

_CHECKPOINT_SHARE = 0.15
"""What is left at least of a checkpoint's bytes in memory: of float32, some 5 bits of 32."""


def fetch(
    reference: HubReference, *, progress: bool = False, local: bool = False, to_run: bool = True
) -> Path:
    """Return where a model of the hub is in the hub's cache, fetching what is missing.

    The checksums of weights in MLC's layout are verified the first time.

    Args:
        reference: the repository, or a file of it.
        progress: whether to show progress on stderr, when that is a terminal.
        local: whether nothing may be fetched, as in the hub's offline mode.
        to_run: whether the model is to run on this machine: then one that cannot fit into its
            memory is refused before it is downloaded, else it is warned of.

    Returns:
        The folder of the repository's files; or the GGUF file, where that is the model.

    Raises:
        HubError: it could not be fetched; the message says why and what to do.
    """
    require_client()
    from huggingface_hub import constants

    access = HubAccess.to(constants.ENDPOINT)
    unanswered: Exception | None = None
    if not (local or constants.HF_HUB_OFFLINE):
        try:
            listing = access.listing(reference.repository, reference.revision)
        except Exception as error:  # what it raises depends on its version
            unanswered = error
        else:
            path = _fetch(reference, access, listing, progress=progress, to_run=to_run)
            _verify(reference, path)
            return path
    try:
        path = _cached(reference)
    except NotCached:
        raise not_cached(reference, access, unanswered) from unanswered
    if unanswered is not None:
        logger.warning(
            "%s was asked for %s in vain (%s): the files in the cache are used, in %s",
            *(access.endpoint, reference, reason(unanswered), path),
        )
    _verify(reference, path)
    return path


def _fetch(
    reference: HubReference, access: HubAccess, listing: Listing, *, progress: bool, to_run: bool
) -> Path:
    """The model of a revision that the hub has listed."""
    selection = select(reference, listing.files, total_memory())
    missing, snapshot = _missing(reference, listing.commit, selection)
    if snapshot is None or missing:
        try:
            context = listing.context or _context(reference, access, selection)
            _say_what_it_takes(reference, selection, missing, context, to_run=to_run)
            snapshot = _download(reference, access, selection, progress=progress)
        except MLCError:
            raise
        except Exception as error:  # it depends on the client's version and on its HTTP library
            raise failure(reference, access, error) from error
    return snapshot / selection.model


def _missing(
    reference: HubReference, commit: str, selection: Selection
) -> tuple[list[RepositoryFile], Path | None]:
    """The files that are not in the cache, and the folder there that the others are in."""
    from huggingface_hub import try_to_load_from_cache

    missing, snapshot = [], None
    for file in selection.files:
        # By the branch's name, so that one that has not been fetched yet is not taken for known.
        found = try_to_load_from_cache(reference.repository, file.name, revision=reference.revision)
        if isinstance(found, str) and commit in Path(found).parts:
            snapshot = Path(found).parents[file.name.count("/")]
        else:
            missing.append(file)
    return missing, snapshot


def _context(reference: HubReference, access: HubAccess, selection: Selection) -> int | None:
    """Tokens of context by the configuration, which is fetched for it; None where it says none."""
    from huggingface_hub import hf_hub_download

    names = {file.name for file in selection.files}
    for name, field in (
        (CHAT_CONFIG_FILE, "context_window_size"),
        ("config.json", "max_position_embeddings"),
    ):
        if name not in names:
            continue
        path = hf_hub_download(
            reference.repository,
            name,
            revision=reference.revision,
            tqdm_class=bars(shown=False, began=threading.Event(), stopped=threading.Event()),
            **access.arguments,
        )
        try:
            data = json.loads(Path(path).read_bytes())
            tokens = data.get(field) or data.get("text_config", {}).get(field)
        except (ValueError, AttributeError, RecursionError):
            return None  # whoever reads it says what is wrong with it
        return tokens if isinstance(tokens, int) else None
    return None


def _say_what_it_takes(
    reference: HubReference,
    selection: Selection,
    missing: list[RepositoryFile],
    context: int | None,
    *,
    to_run: bool,
) -> None:
    """Say what is downloaded, and check that there is room for it on the disk and in memory."""
    from huggingface_hub import constants

    nbytes = sum(file.nbytes for file in missing)
    logger.info(
        "%s: downloading %s (weights %s, context %s) into %s",
        *(reference, size_text(nbytes), size_text(selection.weight_bytes)),
        *(f"{context} tokens" if context else "not known", constants.HF_HUB_CACHE),
    )
    share = 1 if selection.runs_as_stored else _CHECKPOINT_SHARE
    problem = memory_problem(str(reference), int(selection.weight_bytes * share), total_memory())
    if problem and to_run:
        raise HubError(
            f"{problem} Nothing was downloaded. Take a smaller model, or one in fewer bits; to "
            f"download it all the same, as for another machine: mlc_llm pull {reference}",
            code="model-too-large",
        )
    if problem:
        logger.warning("%s", problem)
    cache = Path(constants.HF_HUB_CACHE).expanduser()
    require_disk(str(reference), nbytes - _begun_bytes(reference, cache), cache, "HF_HOME")


def _begun_bytes(reference: HubReference, cache: Path) -> int:
    """Bytes in the cache of files that are not there as a whole, which are resumed."""
    blobs = cache / f"models--{reference.repository.replace('/', '--')}" / "blobs"
    return sum(file.stat().st_size for file in blobs.glob("*.incomplete"))


def _download(
    reference: HubReference, access: HubAccess, selection: Selection, *, progress: bool
) -> Path:
    """Fetch what is missing of a model; the folder in which its files are."""
    import huggingface_hub

    began, stopped = threading.Event(), threading.Event()

    def download() -> str:
        return huggingface_hub.snapshot_download(
            reference.repository,
            revision=reference.revision,
            allow_patterns=[glob.escape(file.name) for file in selection.files],
            tqdm_class=bars(shown=progress, began=began, stopped=stopped),
            **access.arguments,
        )

    try:
        # The client asks again which files there are, without a limit. Then each of its requests
        # has one: a hub that falls silent in the middle of a file is an error after six times
        # HF_HUB_DOWNLOAD_TIMEOUT seconds, one that is silent before a file after some minutes.
        return Path(within_deadline(download, began))
    finally:
        stopped.set()


def _cached(reference: HubReference) -> Path:
    """The model as it is in the hub's cache.

    Raises:
        NotCached: it is not there, or not all of it.
    """
    snapshot = _snapshot(reference, allow_patterns=[])
    files = [
        RepositoryFile(path.relative_to(snapshot).as_posix(), path.stat().st_size)
        for path in snapshot.rglob("*")
        if path.is_file()
    ]
    try:
        selection = select(reference, files, total_memory())
    except HubError as error:
        raise NotCached from error
    if selection.model:
        return snapshot / selection.model
    return _snapshot(reference, **folder_patterns(selection))


def _snapshot(reference: HubReference, **patterns: Any) -> Path:
    """The folder of a revision in the cache; raises NotCached where it lacks files of these."""
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            reference.repository, revision=reference.revision, local_files_only=True, **patterns
        )
    except Exception as error:  # what it raises depends on its version
        raise NotCached from error
    return Path(folder)


def _verify(reference: HubReference, path: Path) -> None:
    """Verify the checksums of a folder in MLC's layout, which it has unless it is a checkpoint."""
    if not any((path / name).is_file() for name in (MANIFEST_FILE, OLDER_MANIFEST_FILE)):
        return
    try:
        verify_once(f"{reference.repository.replace('/', '--')}--{path.name}", path)
    except ModelFolderError as error:
        raise HubError(
            f"{reference} was fetched, but it is damaged: {error} If a file differs from the "
            "one on the hub, delete it from the cache to fetch it again.",
            code="download-damaged",
        ) from error
