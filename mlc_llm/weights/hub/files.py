"""Which files of a repository are fetched: those of one model, and never code.

A repository has a model in MLC's format, a checkpoint, GGUF files, or several of these. The first
of them is taken. Of several GGUF files, which are one model in several sizes, one is taken:
:mod:`.gguf_choice` says which.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.errors import HubError
from mlc_llm.weights.gguf_choice import GGUFModel, choose, gguf_models
from mlc_llm.weights.hub.reference import HubReference
from mlc_llm.weights.paths import listed, shown_name
from mlc_llm.weights.sizes import size_text

logger = logging.getLogger("mlc_llm")

_BESIDE = ("*.json", "*.model", "*.txt", "*.jinja")
"""Configurations, tokenizers and templates."""
_WEIGHTS = ("params_shard_*.bin", "*.safetensors", "pytorch_model*.bin")
"""The weights of each kind of folder; the first kind that a repository has is taken."""
_UNWANTED = ("*/*", "consolidated*.safetensors", "*.fp16.*")
"""Files in folders, which no model needs, and copies of the same weights."""


@dataclass(frozen=True)
class RepositoryFile:
    """A file of a repository: its path in it, and its size in bytes."""

    name: str
    nbytes: int


def listed_files(files: Iterable[tuple[object, object]]) -> tuple[RepositoryFile, ...]:
    """The files that a hub lists, but for those whose names lead out of the repository.

    Args:
        files: names and sizes; a size that is not one counts as 0.
    """
    return tuple(
        RepositoryFile(name, size if isinstance(size, int) and size > 0 else 0)
        for name, size in files
        if isinstance(name, str) and _is_inside(name)
    )


def _is_inside(name: str) -> bool:
    return "\\" not in name and not {"", ".", ".."} & {*name.split("/")}


@dataclass(frozen=True)
class Listing:
    """What the hub says of a revision of a repository.

    Args:
        commit: its commit.
        files: its files.
        context: tokens of context that its GGUF file says it has; None where it is not known.
    """

    commit: str
    files: tuple[RepositoryFile, ...]
    context: int | None = None


@dataclass(frozen=True)
class Selection:
    """The files of one model in a repository.

    Args:
        files: all of them.
        weights: those of them that are its weights.
        model: the GGUF file that is the model; empty where the folder is.
        runs_as_stored: whether the weights take as much memory as they take on the disk, which
            those of a checkpoint do not when they are quantised.
    """

    files: tuple[RepositoryFile, ...]
    weights: tuple[RepositoryFile, ...]
    model: str = ""
    runs_as_stored: bool = True

    @property
    def weight_bytes(self) -> int:
        return sum(file.nbytes for file in self.weights)


def select(
    reference: HubReference, files: Sequence[RepositoryFile], memory: int | None
) -> Selection:
    """The files of a repository that make the model which a reference names.

    Args:
        reference: the repository, or one file of it.
        files: what the repository has.
        memory: bytes of memory that the machine has, for the choice among GGUF files; None where
            that is not known.

    Raises:
        HubError: the repository has no such file, or no weights that could be read.
    """
    groups = gguf_models([(file.name, file.nbytes) for file in files])
    models = [group for group in groups if group.complete]
    if reference.file is not None:
        return _gguf_selection(_named(reference, models), files)
    names = {file.name for file in files}
    kinds = _WEIGHTS[:1] if CHAT_CONFIG_FILE in names else _WEIGHTS[1:]
    for pattern in kinds:
        weights = tuple(file for file in files if _matches(file.name, (pattern,)))
        if weights:
            beside = tuple(file for file in files if _matches(file.name, _BESIDE))
            stored = CHAT_CONFIG_FILE in names
            return Selection((*beside, *weights), weights, runs_as_stored=stored)
    if models:
        return _gguf_selection(_chosen(reference, models, memory), files)
    raise HubError(
        f"{reference} has no weights that can be read: none of {', '.join(_WEIGHTS)} or *.gguf. "
        f"It has: {listed(sorted(names)) or 'nothing'}.",
        code="repository-without-weights",
    )


def folder_patterns(selection: Selection) -> dict[str, list[str]]:
    """What ``huggingface_hub`` takes for the files of a folder, whatever else a repository has."""
    kinds = [p for p in _WEIGHTS if any(_matches(f.name, (p,)) for f in selection.weights)]
    return {"allow_patterns": [*_BESIDE, *kinds], "ignore_patterns": list(_UNWANTED)}


def _matches(name: str, patterns: Sequence[str]) -> bool:
    wanted = any(fnmatchcase(name, pattern) for pattern in patterns)
    return wanted and not any(fnmatchcase(name, pattern) for pattern in _UNWANTED)


def _gguf_selection(model: GGUFModel, files: Sequence[RepositoryFile]) -> Selection:
    parts = tuple(file for file in files if file.name in model.parts)
    return Selection(parts, parts, model=model.parts[0])


def _named(reference: HubReference, models: Sequence[GGUFModel]) -> GGUFModel:
    for model in models:
        if reference.file in model.parts:
            return model
    there = listed([model.parts[0] for model in models])
    raise HubError(
        f"{reference.repository} has no file {shown_name(reference.file or '')}. "
        f"Its GGUF files: {there or 'none'}.",
        code="repository-file-unknown",
    )


def _chosen(reference: HubReference, models: Sequence[GGUFModel], memory: int | None) -> GGUFModel:
    """The one that the rule takes, which is said with the others."""
    if len(models) == 1:
        return models[0]
    taken = choose(models, memory)
    others = sorted((m for m in models if m is not taken), key=lambda model: model.nbytes)
    logger.info(
        "%s has %d GGUF files; %s (%s) is taken. To take another: HF://%s/FILE, of %s",
        *(reference, len(models), taken.parts[0], size_text(taken.nbytes), reference.repository),
        ", ".join(f"{shown_name(model.parts[0])} ({size_text(model.nbytes)})" for model in others),
    )
    return taken
