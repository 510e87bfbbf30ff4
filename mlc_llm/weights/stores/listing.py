"""All models on this machine, and those that a short name can fetch."""

from __future__ import annotations

from pathlib import Path

from mlc_llm.plugin.catalog import AnyModel, PackagedModel
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.weights.catalog import catalogued, present
from mlc_llm.weights.stores.converted import converted_models
from mlc_llm.weights.stores.hub_cache import hub_models
from mlc_llm.weights.stores.kept import KeptModel, Store
from mlc_llm.weights.stores.lm_studio import lm_studio_models
from mlc_llm.weights.stores.ollama import ollama_models


def list_models(registry: Registry | None = None) -> list[KeptModel]:
    """The models of every store; first those with a short name.

    Args:
        registry: where catalogues are looked up; by default among the installed plugins.

    Raises:
        HubError: the hub's settings are wrong, so that its cache cannot be looked at.
    """
    return [
        *catalog_models(registry or default_registry()),
        *hub_models(),
        *converted_models(),
        *ollama_models(),
        *lm_studio_models(),
    ]


def catalog_models(registry: Registry) -> list[KeptModel]:
    """The models of the catalogues, those that are not here yet included."""
    kept = []
    for named in catalogued(registry):
        path = present(named)
        size = _to_fetch(named.model) if path is None else size_of(path)
        note = named.model.description
        kept.append(KeptModel(named.name, Store.CATALOG, path, size, path is not None, note))
    return kept


def _to_fetch(model: AnyModel) -> int | None:
    return None if isinstance(model, PackagedModel) else model.nbytes


def size_of(path: Path) -> int:
    """Bytes of a model's folder or file."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
