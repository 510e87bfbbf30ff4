"""A model as a list of models has it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Store(StrEnum):
    """Where a model is kept."""

    HUB = "hub"
    """In the cache of the Hugging Face hub's client, which other programs share."""
    CONVERTED = "converted"
    """In mlc_llm's cache: made of another model, and made again when it is needed."""
    CATALOG = "catalogue"
    """A short name; in mlc_llm's cache, in an installed package, or not here yet."""
    OLLAMA = "ollama"
    """Where ollama keeps it; it is run in place."""
    LM_STUDIO = "lmstudio"
    """Where LM Studio keeps it; it is run in place."""


@dataclass(frozen=True)
class KeptModel:
    """A model on this machine, or one that can be fetched by a short name.

    Args:
        name: what to give to ``mlc_llm chat``.
        store: where it is kept.
        path: its folder or its GGUF file; None where it is not here yet.
        nbytes: bytes on the disk, or bytes to be downloaded; None where that is not known.
        whole: whether all of it is here.
        note: a few words on it.
    """

    name: str
    store: Store
    path: Path | None
    nbytes: int | None
    whole: bool = True
    note: str = ""
