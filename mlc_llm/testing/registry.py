"""A registry of plugins that are objects at hand, with nothing installed."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from os import PathLike
from pathlib import Path
from typing import Any

from mlc_llm.registry.discovery import (
    ARCHITECTURE,
    CATALOG,
    DEVICE,
    LIBRARY,
    OBSERVER,
    OWN_DISTRIBUTIONS,
    SOURCE,
    TEMPLATE,
    Kind,
    canonical,
    discover,
)
from mlc_llm.registry.registry import Registry

IN_MEMORY = "in-memory"
"""The distribution that the plugins of :func:`registry_of` seem to come from."""


def registry_of(
    *,
    devices: Mapping[str, object] | None = None,
    providers: Mapping[str, object] | None = None,
    templates: Mapping[str, object] | None = None,
    architectures: Mapping[str, object] | None = None,
    observers: Mapping[str, object] | None = None,
    sources: Mapping[str, object] | None = None,
    catalogs: Mapping[str, object] | None = None,
    built_in: bool = True,
) -> Registry:
    """Make a registry of plugins that need not be installed.

    The objects are what an entry point would name, and they are checked as those are. Functions
    that take a ``registry`` take this one; a child process, as the JIT provider starts one, knows
    the installed plugins only.

    Args:
        devices: devices by name; of one with a built-in device's name, this one is used.
        providers: library providers by name.
        templates: conversation templates by name.
        architectures: architectures by name.
        observers: observers by name.
        sources: formats of checkpoints by name.
        catalogs: catalogues by name.
        built_in: whether the core's own plugins are there, too.
    """
    given = (
        (DEVICE, devices),
        (LIBRARY, providers),
        (TEMPLATE, templates),
        (ARCHITECTURE, architectures),
        (OBSERVER, observers),
        (SOURCE, sources),
        (CATALOG, catalogs),
    )
    entries: list[EntryPoint] = [
        _Entry(kind, name, value)
        for kind, plugins in given
        for name, value in (plugins or {}).items()
    ]
    listed = [IN_MEMORY] if entries else []
    if built_in:
        candidates, _ = discover()
        entries += [
            candidate.entry_point
            for candidate in candidates
            if canonical(candidate.distribution) in OWN_DISTRIBUTIONS
        ]
    return Registry(entries, allowed=listed)


class _Distribution(importlib.metadata.Distribution):
    """A distribution without files."""

    def read_text(self, filename: str) -> str | None:
        if filename == "METADATA":
            return f"Metadata-Version: 2.1\nName: {IN_MEMORY}\nVersion: 0\n"
        return None

    def locate_file(self, path: str | PathLike[str]) -> Path:
        return Path(path)


class _Entry(EntryPoint):
    """An entry point whose value is an object at hand."""

    dist = _Distribution()

    def __init__(self, kind: Kind, name: str, value: object) -> None:
        where = f"{type(value).__module__}:{type(value).__qualname__}"
        super().__init__(name, where, kind.group)
        vars(self).update(_object=value)

    def load(self) -> Any:
        return vars(self)["_object"]
