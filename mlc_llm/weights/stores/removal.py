"""Removing models: from the hub's cache and from mlc_llm's own, and from nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlc_llm.cache_root import cache_root
from mlc_llm.errors import HubError, ModelNotFoundError, unknown
from mlc_llm.plugin.catalog import HubModel, WheelModel
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.weights.catalog import Named, find
from mlc_llm.weights.catalog.obtain import wheel_model_path
from mlc_llm.weights.hub import HubReference
from mlc_llm.weights.partial import is_partial, remove_partial
from mlc_llm.weights.stores import hub_cache
from mlc_llm.weights.stores.converted import converted_models
from mlc_llm.weights.stores.elsewhere import is_elsewhere
from mlc_llm.weights.stores.kept import Store
from mlc_llm.weights.stores.listing import list_models


@dataclass(frozen=True)
class Removal:
    """Something that goes when a model is removed.

    Args:
        what: the model's name, for people.
        store: where it is kept.
        paths: the folders, files and links that are deleted.
        nbytes: bytes on the disk that become free.
    """

    what: str
    store: Store
    paths: tuple[Path, ...]
    nbytes: int

    def carry_out(self) -> None:
        """Delete it; what is gone already is passed over.

        Raises:
            ConversionError: a process still makes the model.
            OSError: something cannot be deleted.
        """
        for path in self.paths:
            if is_partial(path):
                remove_partial(path)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def plan_removal(name: str, registry: Registry | None = None) -> list[Removal]:
    """What goes when a model is removed; nothing is deleted yet.

    Models that were made of it, converted, go with it.

    Args:
        name: a name that a list of models shows, or the path of a converted model's folder. A
            repository on the hub without a revision or a file means all that was fetched of it.
        registry: where catalogues are looked up; by default among the installed plugins.

    Raises:
        ModelNotFoundError: there is no such model in these caches.
    """
    registry = registry or default_registry()
    if is_elsewhere(name):
        raise ModelNotFoundError(
            f"{name} belongs to another program, which keeps it. Remove it there.",
            code="model-not-ours",
        )
    reference = HubReference.parse(name)
    short = None if reference else find(name, registry)
    if short is not None and isinstance(short.model, HubModel):
        reference = HubReference.parse(short.model.hub)
    removals = [
        *(_from_hub(reference) if reference else ()),
        *(_from_catalog(short) if short else ()),
        *_converted(name, reference),
    ]
    if not removals:
        there = [kept.name for kept in list_models(registry) if kept.path is not None]
        raise ModelNotFoundError(unknown("model", name, there), code="model-not-kept")
    return removals


def _from_hub(reference: HubReference) -> Iterator[Removal]:
    plan = hub_cache.plan_removal(reference)
    if plan is None:
        return
    paths = plan.files
    if plan.repository is not None:
        verified = cache_root() / "verified"
        stamps = verified.glob(f"{reference.repository.replace('/', '--')}--*")
        paths = (plan.repository, *stamps)
    yield Removal(str(reference), Store.HUB, paths, plan.nbytes)


def _from_catalog(named: Named) -> Iterator[Removal]:
    if isinstance(named.model, WheelModel):
        path = wheel_model_path(named.model)
        # With what is left of a download that broke off.
        files = [file for file in path.parent.glob("*") if file.is_file()]
        if size := sum(file.stat().st_size for file in files):
            yield Removal(named.name, Store.CATALOG, (path.parent,), size)


def _converted(name: str, reference: HubReference | None) -> Iterator[Removal]:
    for model in converted_models():
        assert model.path is not None
        same = reference is not None and _parsed(model.name) == reference
        if same or name in (model.name, model.path.name, str(model.path)):
            yield Removal(model.name, Store.CONVERTED, (model.path,), model.nbytes or 0)


def _parsed(name: str) -> HubReference | None:
    try:
        return HubReference.parse(name)
    except HubError:
        return None
