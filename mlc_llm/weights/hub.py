"""Fetching model folders from the Hugging Face hub, through ``huggingface_hub``.

Its cache, its environment variables (``HF_HOME``, ``HF_TOKEN``, ``HF_ENDPOINT``, ...), its offline
mode (``HF_HUB_OFFLINE=1``) and its resuming of interrupted downloads apply as they are.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_llm.errors import HubError, ModelFolderError
from mlc_llm.weights.hub_access import HubAccess, reason, require_client
from mlc_llm.weights.manifest import MANIFEST_FILE, OLDER_MANIFEST_FILE
from mlc_llm.weights.paths import shown_name
from mlc_llm.weights.verified import verify_once

logger = logging.getLogger("mlc_llm")

# What model folders and checkpoints are made of. Anything else is not fetched, native code least.
_WANTED = ("*.json", "params_shard_*.bin", "*.safetensors", "*.model", "*.txt", "*.jinja")
# Copies of the same weights in other layouts, which many repositories also hold.
_UNWANTED = ("original/*", "onnx/*", "openvino/*", "consolidated*.safetensors", "*.fp16.*")

_PREFIX = re.compile(r"hf://|https?://(www\.)?(huggingface\.co|hf\.co)/", re.IGNORECASE)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LONGEST = 200
"""Characters of a repository's name, or of a revision's; the hub allows about half of that."""


@dataclass(frozen=True)
class HubReference:
    """A repository on the hub, such as ``HF://org/name``, and perhaps a branch, tag or commit."""

    repository: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> HubReference | None:
        """Read ``HF://org/name[@revision]`` or ``https://huggingface.co/org/name[/tree/revision]``.

        Returns:
            The reference, or None where ``text`` is of neither form.

        Raises:
            HubError: it has the form and names no repository.
        """
        prefix = _PREFIX.match(text)
        if prefix is None:
            return None
        path, _, revision = text[prefix.end() :].rstrip("/").partition("@")
        if not revision:
            path, _, revision = path.partition("/tree/")
        path = path.removesuffix(".git")
        is_repository = _REPOSITORY.fullmatch(path) is not None and len(path) <= _LONGEST
        if not is_repository or not _is_revision(revision):
            raise HubError(
                f"{shown_name(text)} names no repository; write HF://org/name or HF://org/name@tag.",
                code="repository-malformed",
            )
        return cls(path, revision or None)

    def __str__(self) -> str:
        return f"HF://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def _is_revision(text: str) -> bool:
    """Whether a branch, a tag or a commit may be called so; nothing stands for the main branch."""
    odd = not text.isprintable() or " " in text or ".." in text
    return len(text) <= _LONGEST and not odd


def fetch(reference: HubReference, *, progress: bool = False) -> Path:
    """Return the folder of a repository's files in the hub's cache, fetching what is missing.

    The checksums of weights in MLC's layout are verified the first time.

    Args:
        reference: the repository.
        progress: whether to show progress on stderr, when that is a terminal.

    Raises:
        HubError: it could not be fetched; the message says why and what to do.
    """
    require_client()
    from huggingface_hub import constants

    access = HubAccess.to(constants.ENDPOINT)
    asked = not constants.HF_HUB_OFFLINE
    unanswered = access.ask(reference.repository, reference.revision) if asked else None
    try:
        folder = _download(reference, access, local=unanswered is not None, progress=progress)
    except Exception as error:  # what it raises depends on its version and on its HTTP library
        raise _failure(reference, access, error, unanswered) from (unanswered or error)
    if unanswered is not None:
        logger.warning(
            "%s was asked for %s in vain (%s): the files in the cache are used, in %s",
            *(access.endpoint, reference, reason(unanswered), folder),
        )
    _verify(reference, folder)
    return folder


def _download(reference: HubReference, access: HubAccess, *, local: bool, progress: bool) -> Path:
    """Fetch what is missing of a repository; with ``local`` nothing, only what is there counts."""
    import huggingface_hub

    folder = huggingface_hub.snapshot_download(
        reference.repository,
        revision=reference.revision,
        allow_patterns=list(_WANTED),
        ignore_patterns=list(_UNWANTED),
        local_files_only=local,
        tqdm_class=_bars(progress and sys.stderr.isatty()),
        **access.arguments,
    )
    return Path(folder)


def _bars(shown: bool) -> type[Any]:
    from huggingface_hub.utils.tqdm import tqdm

    class Bars(tqdm):
        """The hub's progress bars, shown only where they were asked for."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if not shown:
                kwargs["disable"] = True
            untyped: Any = super().__init__
            untyped(*args, **kwargs)

    return Bars


def _failure(
    reference: HubReference, access: HubAccess, error: Exception, unanswered: Exception | None
) -> HubError:
    from huggingface_hub import constants, errors

    endpoint = access.endpoint
    if isinstance(unanswered, errors.HfHubHTTPError):
        error = unanswered
    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{reference} is gated. Accept its terms at {endpoint}/{reference.repository}, then "
            "log in with `hf auth login` or set HF_TOKEN.",
            code="repository-gated",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"{endpoint} has no repository {reference.repository}, or it is private. Check the "
            "name; for a private one, log in with `hf auth login` or set HF_TOKEN.",
            code="repository-not-found",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(
            f"{reference.repository} has no revision {reference.revision!r}. "
            f"Its branches and tags: {endpoint}/{reference.repository}/tree/main",
            code="revision-unknown",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return HubError(
            f"The disk is full: {reference} does not fit into {constants.HF_HUB_CACHE}. Free some "
            "space or set HF_HOME to another disk; what was fetched is kept.",
            code="disk-full",
        )
    if constants.HF_HUB_OFFLINE:
        return HubError(
            f"{reference} is not, or not wholly, in the cache {constants.HF_HUB_CACHE}, and the "
            "hub's offline mode is on. Unset HF_HUB_OFFLINE to fetch it.",
            code="model-not-cached",
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        cause = unanswered or error.__cause__ or error
        return HubError(
            f"{endpoint} could not be reached, and {reference} is not, or not wholly, in the cache "
            f"{constants.HF_HUB_CACHE}. Check the network connection and try again: what was "
            f"fetched is kept. ({reason(cause)})",
            code="hub-unreachable",
        )
    return HubError(
        f"{reference} could not be fetched from {endpoint}: {reason(error)}. Try again: what was "
        "fetched is kept."
    )


def _verify(reference: HubReference, folder: Path) -> None:
    """Verify the checksums of a folder in MLC's layout, which it has unless it is a checkpoint."""
    if not any((folder / name).is_file() for name in (MANIFEST_FILE, OLDER_MANIFEST_FILE)):
        return
    try:
        verify_once(f"{reference.repository.replace('/', '--')}--{folder.name}", folder)
    except ModelFolderError as error:
        raise HubError(
            f"{reference} was fetched, but it is damaged: {error} If a file differs from the "
            "one on the hub, delete it from the cache to fetch it again.",
            code="download-damaged",
        ) from error
