"""What a short name stands for."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_llm.errors import PluginError
from mlc_llm.plugin.catalog import AnyModel
from mlc_llm.registry.discovery import PLUGINS_VARIABLE
from mlc_llm.registry.registry import Registry


@dataclass(frozen=True)
class Named:
    """A model of a catalogue.

    Args:
        name: its short name.
        model: where it is.
        catalog: the catalogue's name.
        distribution: the distribution that has the catalogue.
    """

    name: str
    model: AnyModel
    catalog: str
    distribution: str


def catalogued(registry: Registry) -> list[Named]:
    """All models of all catalogues that can be loaded, by name.

    Args:
        registry: where the catalogues are looked up.
    """
    named = []
    for catalog, models in registry.catalogs().items():
        distribution = registry.entry("catalogue", catalog).distribution
        named += [Named(name, model, catalog, distribution) for name, model in models.items()]
    return sorted(named, key=lambda one: (one.name, one.catalog))


def find(name: str, registry: Registry) -> Named | None:
    """The model with a short name; None where no catalogue has it.

    Raises:
        PluginError: two catalogues have it.
    """
    found = [one for one in catalogued(registry) if one.name == name]
    if len(found) > 1:
        origins = ", ".join(f"{one.catalog!r} of {one.distribution}" for one in found)
        raise PluginError(
            f"Several catalogues have a model {name!r}: {origins}. Uninstall all but one, or list "
            f"in {PLUGINS_VARIABLE} the plugins that may be used.",
            code="plugin-ambiguous",
        )
    return found[0] if found else None
