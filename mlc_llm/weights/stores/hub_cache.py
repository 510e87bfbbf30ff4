"""The models in the cache of the Hugging Face hub's client, which other programs share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_llm.weights.gguf_choice import gguf_models
from mlc_llm.weights.hub.access import require_client
from mlc_llm.weights.hub.reference import HubReference
from mlc_llm.weights.stores.kept import KeptModel, Store

_WEIGHTS = (".safetensors", ".bin")


def hub_models() -> Iterator[KeptModel]:
    """The models in the hub's cache: a row for each revision of a repository, and each GGUF file.

    Repositories without weights, such as those of which only the tokenizer was fetched, are left
    out, unless their weights are being fetched.
    """
    for repository in _scan():
        partial = any((repository.repo_path / "blobs").glob("*.incomplete"))
        for revision in sorted(repository.revisions, key=_revision_order):
            yield from _models_of(repository, revision, partial)


@dataclass(frozen=True)
class Removal:
    """What removing a model from the hub's cache takes away.

    Args:
        repository: the folder of a whole repository; None where others of its models stay.
        files: files and links to them, where only these go.
        nbytes: bytes on the disk that become free.
    """

    repository: Path | None
    files: tuple[Path, ...]
    nbytes: int


def plan_removal(reference: HubReference) -> Removal | None:
    """What goes when a model is removed; None where the cache does not have it.

    Without a revision and a file, all revisions of the repository go. Files that another revision
    has, too, stay.

    Args:
        reference: a repository, a revision of it, or a file of it.
    """
    repository = next((r for r in _scan() if r.repo_id == reference.repository), None)
    if repository is None:
        return None
    if reference.revision is None and reference.file is None:
        return Removal(repository.repo_path, (), repository.size_on_disk)
    revisions = [
        revision
        for revision in repository.revisions
        if reference.revision in (None, revision.commit_hash, *revision.refs)
    ]
    going = [file for revision in revisions for file in _files(revision, reference.file)]
    if not going:
        return None
    gone = {file.file_path for file in going}
    staying = [f for r in repository.revisions for f in r.files if f.file_path not in gone]
    if not staying:
        return Removal(repository.repo_path, (), repository.size_on_disk)
    kept = {file.blob_path for file in staying}
    blobs = {
        file.blob_path: file.size_on_disk
        for file in going
        # A link may lead out of the cache: what it leads to is not the cache's.
        if file.blob_path not in kept and file.blob_path.is_relative_to(repository.repo_path)
    }
    return Removal(None, (*sorted(gone), *sorted(blobs.keys() - gone)), sum(blobs.values()))


def _files(revision: Any, name: str | None) -> list[Any]:
    """The files of a revision; with a name, the parts of that GGUF model."""
    by_name = _by_name(revision)
    if name is None:
        return [*by_name.values()]
    models = gguf_models((name, file.size_on_disk) for name, file in by_name.items())
    parts = next((model.parts for model in models if name in model.parts), ())
    return [by_name[part] for part in parts]


def _by_name(revision: Any) -> dict[str, Any]:
    return {
        file.file_path.relative_to(revision.snapshot_path).as_posix(): file
        for file in revision.files
    }


def _scan() -> list[Any]:
    """The repositories of models in the cache, as ``huggingface_hub`` describes them."""
    require_client()
    from huggingface_hub import constants, scan_cache_dir

    folder = os.path.expanduser(constants.HF_HUB_CACHE)  # noqa: PTH111 (as the client does)
    if not Path(folder).is_dir():
        return []
    repositories = scan_cache_dir(folder).repos
    return sorted((r for r in repositories if r.repo_type == "model"), key=lambda r: r.repo_id)


def _revision_order(revision: Any) -> tuple[bool, str]:
    return "main" not in revision.refs, revision.commit_hash


def _models_of(repository: Any, revision: Any, partial: bool) -> Iterator[KeptModel]:
    name = None if "main" in revision.refs else min(revision.refs, default=revision.commit_hash)
    snapshot = revision.snapshot_path
    sizes = {name: file.size_on_disk for name, file in _by_name(revision).items()}
    for model in gguf_models(sizes.items()):
        reference = HubReference(repository.repo_id, name, model.parts[0])
        path = snapshot / model.parts[0]
        yield KeptModel(str(reference), Store.HUB, path, model.nbytes, model.complete)
    others = {file: size for file, size in sizes.items() if not file.lower().endswith(".gguf")}
    if any(file.endswith(_WEIGHTS) for file in others) or (partial and others):
        reference = HubReference(repository.repo_id, name)
        yield KeptModel(str(reference), Store.HUB, snapshot, sum(others.values()), not partial)
