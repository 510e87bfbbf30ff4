"""From what a user writes for a model to where it is: a folder, or a GGUF file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.errors import ModelNotFoundError
from mlc_llm.home import expand_home
from mlc_llm.host_memory import total_memory
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.weights.catalog import catalogued, find, obtain
from mlc_llm.weights.gguf_choice import choose, gguf_models
from mlc_llm.weights.gguf_file import is_gguf
from mlc_llm.weights.hub import HubReference, fetch
from mlc_llm.weights.paths import is_file, is_folder, shown_name
from mlc_llm.weights.stores.elsewhere import find_elsewhere

DEMO = "demo"
"""The name of the small model that is part of this package."""

_CONFIGS = (CHAT_CONFIG_FILE, "config.json")


def resolve_model(
    model: str | Path,
    *,
    progress: bool = False,
    local: bool = False,
    to_run: bool = True,
    registry: Registry | None = None,
) -> Path:
    """Return where a model is, fetching it if it must be.

    Args:
        model: a folder; the ``mlc-chat-config.json`` in one; a GGUF file; the name of a folder
            under ``dist/`` or ``dist/prebuilt/``; a repository on the hub,
            ``HF://org/name[@revision]``, or a file of one, ``HF://org/name/model.gguf``;
            ``ollama:NAME`` or ``lmstudio:NAME``, a model that another program keeps here, as
            ``mlc_llm list`` shows them; or a short name of a catalogue, such as ``demo``, the small
            model that is part of this package. A model of yours in one of the places above that has
            a short name is taken first; a folder of that name that is not a model is passed over.
        progress: whether to show a download's progress on stderr, when that is a terminal.
        local: whether nothing may be fetched, as in the hub's offline mode.
        to_run: whether it is to run on this machine; one that is too large for its memory is then
            not downloaded.
        registry: where catalogues are looked up; by default among the installed plugins.

    Returns:
        An existing folder, or a GGUF file. What is in it is for the caller to check.

    Raises:
        ModelNotFoundError: there is none; the message has every place that was looked at.
        HubError: it could not be fetched.
        PluginError: two catalogues have the name.
    """
    if not str(model).strip():
        raise ModelNotFoundError(
            f"No model is named. Give a model folder, a GGUF file, HF://org/name, or {DEMO!r}."
        )
    if isinstance(model, str):
        if (reference := HubReference.parse(model)) is not None:
            return fetch(reference, progress=progress, local=local, to_run=to_run)
        if (path := find_elsewhere(model)) is not None:
            return path
    named = expand_home(model, ModelNotFoundError, "The model")
    if (path := _named_by_file(named)) is not None:
        return path
    places = _places(named)
    folders, unseen = _folders(places)
    for folder in folders:
        if (path := _model_in(folder)) is not None:
            return path
    registry = registry or default_registry()
    short = find(model, registry) if isinstance(model, str) else None
    if short is not None:
        return obtain(short, progress=progress, local=local, to_run=to_run)
    # A folder without a configuration: whoever opens it says what it lacks.
    if folders:
        return folders[0]
    # A place that could not be looked at may be the one that is meant.
    raise unseen[0] if unseen else ModelNotFoundError(_not_found(named, places, registry))


def model_name(path: Path) -> str:
    """What to call a model: its reference in the hub's cache, else the folder's or file's name.

    Args:
        path: the model folder, or the GGUF file.
    """
    for snapshot in (path, *path.parents):
        repository = snapshot.parent.parent.name
        if snapshot.parent.name == "snapshots" and repository.startswith("models--"):
            name = repository.removeprefix("models--").replace("--", "/", 1)
            return "/".join(["HF:/", name, *path.relative_to(snapshot).parts])
    return path.name if path.suffix else path.resolve().name


def _named_by_file(named: Path) -> Path | None:
    """The model that a file stands for; None where there is no file, or it cannot be looked at."""
    try:
        if not is_file(named, ModelNotFoundError):
            return None
    except ModelNotFoundError:
        return None
    if named.name == CHAT_CONFIG_FILE:
        return named.parent
    if is_gguf(named):
        return named
    raise ModelNotFoundError(
        f"{shown_name(named)} is a file, and neither a GGUF file nor the {CHAT_CONFIG_FILE} of a "
        "model folder."
    )


def _model_in(folder: Path) -> Path | None:
    """The folder if it is a model; the GGUF file in it where that is all it has; else None."""
    try:
        if any(is_file(folder / name, ModelNotFoundError) for name in _CONFIGS):
            return folder
        files = [(path.name, path.stat().st_size) for path in folder.glob("*.gguf")]
    except (ModelNotFoundError, OSError):
        return None
    models = [model for model in gguf_models(files) if model.complete]
    if not models:
        return None
    chosen = choose(models, total_memory())
    # Two files of one type are two models: whoever opens the folder says so.
    alone = sum(model.type == chosen.type for model in models) == 1
    return folder / chosen.parts[0] if alone else None


def _places(named: Path) -> list[Path]:
    """Where MLC looks for a model of that name; older folders keep the weights in ``params``."""
    roots = [named]
    if not named.is_absolute():
        dist = Path("dist")
        roots += [dist / named, dist / "prebuilt" / named]
        roots.append(dist / "prebuilt" / named.parent / f"mlc-chat-{named.name}")
    return [place for root in roots for place in (root, root / "params")]


def _folders(places: Iterable[Path]) -> tuple[list[Path], list[ModelNotFoundError]]:
    """Which places are folders, and why others could not be looked at."""
    folders, unseen = [], []
    for place in places:
        try:
            if is_folder(place, ModelNotFoundError):
                folders.append(place)
        except ModelNotFoundError as error:
            unseen.append(error)
    return folders, unseen


def _not_found(named: Path, places: list[Path], registry: Registry) -> str:
    looked = ", ".join(shown_name(place.absolute()) for place in places)
    text = f"No model {shown_name(named)}. Looked for a folder at: {looked}."
    if named.is_absolute():
        return text
    if len(named.parts) == 2:
        return f"{text} To fetch it from the hub, write HF://{named.as_posix()}."
    short = sorted({one.name for one in catalogued(registry)})
    return f"{text} Short names of models that can be fetched: {', '.join(short)}."
