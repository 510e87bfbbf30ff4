"""Models that other programs keep on this machine, found by the names that a list shows."""

from __future__ import annotations

from pathlib import Path

from mlc_llm.errors import ModelNotFoundError, unknown
from mlc_llm.weights.stores.kept import Store
from mlc_llm.weights.stores.lm_studio import lm_studio_models
from mlc_llm.weights.stores.ollama import ollama_models

_STORES = {Store.OLLAMA: ollama_models, Store.LM_STUDIO: lm_studio_models}


def is_elsewhere(name: str) -> bool:
    """Whether a name is of the form that models of other programs have."""
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix.lower() in _STORES


def find_elsewhere(name: str) -> Path | None:
    """The GGUF file of a model of another program.

    Args:
        name: what names it, ``ollama:NAME[:TAG]`` or ``lmstudio:PUBLISHER/REPOSITORY/FILE``.

    Returns:
        The file; None where ``name`` is of neither form.

    Raises:
        ModelNotFoundError: that program has no such model here.
    """
    if not is_elsewhere(name):
        return None
    prefix, _, rest = name.partition(":")
    store = Store(prefix.lower())
    kept = {model.name: model.path for model in _STORES[store]()}
    wanted = f"{store}:{rest}"
    if store is Store.OLLAMA and wanted not in kept and ":" not in rest:
        wanted += ":latest"
    path = kept.get(wanted)
    if path is None:
        raise ModelNotFoundError(unknown(f"model of {store}", name, kept))
    return path
