"""From what a user writes for a model to its folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.errors import ModelNotFoundError
from mlc_llm.home import expand_home
from mlc_llm.shown import shown as quoted
from mlc_llm.weights.hub import HubReference, fetch
from mlc_llm.weights.paths import is_file, is_folder, shown

DEMO = "demo"
"""The name of the small model that is part of this package."""

_PACKAGE = Path(__file__).resolve().parents[1]


def resolve_model(model: str | Path, *, progress: bool = False) -> Path:
    """Return the folder of a model.

    Args:
        model: a folder; the ``mlc-chat-config.json`` in one; the name of a folder under ``dist/``
            or ``dist/prebuilt/``; a repository on the hub, ``HF://org/name[@revision]`` or
            ``https://huggingface.co/org/name``; or ``demo``, the small model that is part of this
            package. A model of yours in one of the places above that has this name too is taken
            first; a folder ``demo`` that is not a model is passed over.
        progress: whether to show a download's progress on stderr, when that is a terminal.

    Returns:
        An existing folder. What is in it is for the caller to check.

    Raises:
        ModelNotFoundError: there is none; the message has every place that was looked at.
        HubError: a repository could not be fetched.
    """
    if not str(model).strip():
        raise ModelNotFoundError(
            f"No model is named. Give a model folder, HF://org/name, or {DEMO!r}."
        )
    reference = HubReference.parse(str(model)) if isinstance(model, str) else None
    if reference is not None:
        return fetch(reference, progress=progress)
    named = expand_home(model, ModelNotFoundError, "The model")
    if named.name == CHAT_CONFIG_FILE and is_file(named, ModelNotFoundError):
        return named.parent
    places = _places(named)
    if model == DEMO:
        places.append(_PACKAGE / DEMO)
    folders, unseen = _folders(places)
    # A folder without a configuration: whoever opens it says what it lacks.
    for folder in (*filter(_has_config, folders), *folders):
        return folder
    # A place that could not be looked at may be the one that is meant.
    raise unseen[0] if unseen else ModelNotFoundError(_not_found(str(model), named, places))


def model_name(folder: Path) -> str:
    """What to call the model of a folder: ``HF://org/name`` in the hub's cache, else its name."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return "HF://" + repository.removeprefix("models--").replace("--", "/", 1)
    return folder.resolve().name


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


def _has_config(folder: Path) -> bool:
    try:
        return is_file(folder / CHAT_CONFIG_FILE, ModelNotFoundError)
    except ModelNotFoundError:
        return False


def _not_found(model: str, named: Path, places: list[Path]) -> str:
    if named.is_file():
        return f"{named} is a file; a model is a folder with {CHAT_CONFIG_FILE} in it."
    looked = ", ".join(shown(place.absolute()) for place in places)
    parts = named.parts
    hint = (
        f" To fetch it from the hub, write HF://{model}."
        if len(parts) == 2 and not named.is_absolute()
        else ""
    )
    return f"No model {quoted(model)}. Looked for a folder at: {looked}.{hint}"
