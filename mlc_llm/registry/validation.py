"""Whether what an entry point gave is a plugin of its kind and of this interface version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from mlc_llm.errors import PluginError, TemplateError
from mlc_llm.plugin import hookspecs
from mlc_llm.plugin.architecture import Architecture
from mlc_llm.plugin.catalog import Catalog
from mlc_llm.plugin.device import Device
from mlc_llm.plugin.source import SourceFormat
from mlc_llm.plugin.template import ConversationTemplate
from mlc_llm.registry.discovery import (
    ARCHITECTURE,
    CATALOG,
    DEVICE,
    LIBRARY,
    OBSERVER,
    SOURCE,
    TEMPLATE,
    Candidate,
    Kind,
)
from mlc_llm.version import INTERFACE_VERSION

DEFAULT_ORDER = 50
"""When the hooks of a plugin without ``order`` are called; built-in providers stand around it."""


def validated(candidate: Candidate, value: object) -> Any:
    """Return the plugin that ``value``, which the entry point named, is or makes.

    Raises:
        PluginError: the value is of the wrong type, interface version or name.
        TemplateError: the value is not a valid template.
        ConfigError: the value is not a valid catalogue.
    """
    if candidate.kind is DEVICE:
        return _named(candidate, value, Device)
    if candidate.kind is ARCHITECTURE:
        return _named(candidate, value, Architecture)
    if candidate.kind is SOURCE:
        return _ordered(_named(candidate, value, SourceFormat))
    if candidate.kind is TEMPLATE:
        return _template(candidate, value)
    if candidate.kind is CATALOG:
        return _catalog(candidate, value)
    return _hooked(candidate, value)


def _named(candidate: Candidate, value: object, base: type[Any]) -> Any:
    """A device, an architecture or a format: an instance, or a class made without arguments."""
    plugin = value() if isinstance(value, type) and issubclass(value, base) else value
    if not isinstance(plugin, base):
        raise PluginError(
            f"its entry point {candidate.entry_point.value!r} gives {_a(value)}, but must give an "
            f"instance or a subclass of mlc_llm.plugin.{base.__name__}"
        )
    _check_interface(plugin)
    name = getattr(plugin, "name", None)
    if name != candidate.name:
        said = f"the name {name!r}" if name is not None else "no name"
        raise PluginError(f"it has {said}, but its entry point is called {candidate.name!r}")
    if isinstance(plugin, Device) and (
        not isinstance(plugin.priority, int | float) or isinstance(plugin.priority, bool)
    ):
        raise PluginError(f"its priority is {plugin.priority!r}, not a number")
    return plugin


def _ordered(plugin: Any) -> Any:
    hook_order(plugin)
    return plugin


def _template(candidate: Candidate, value: object) -> ConversationTemplate:
    if isinstance(value, ConversationTemplate):
        template = value
    elif isinstance(value, Mapping):
        template = ConversationTemplate.from_data(dict(value), f"the value of {candidate.name!r}")
    else:
        raise TemplateError(
            f"its entry point {candidate.entry_point.value!r} gives {_a(value)}, but must give a "
            "mapping of template fields"
        )
    return template if template.name else template.model_copy(update={"name": candidate.name})


def _catalog(candidate: Candidate, value: object) -> Catalog:
    if isinstance(value, Mapping):
        return Catalog.from_data(value)
    raise PluginError(
        f"its entry point {candidate.entry_point.value!r} gives {_a(value)}, but must give a "
        "mapping from short names of models to where they are"
    )


def _hooked(candidate: Candidate, value: object) -> object:
    """A provider or observer: an object with hooks, or a class that is made without arguments."""
    plugin = value() if isinstance(value, type) else value
    _check_interface(plugin)
    name = getattr(plugin, "name", candidate.name)
    if name != candidate.name:
        raise PluginError(f"its name is {name!r}, but its entry point is {candidate.name!r}")
    hook_order(plugin)
    # Registering stops half-way at a wrong hook: try it where no plugin is called.
    trial = new_manager(candidate.kind)
    try:
        trial.register(plugin, name=candidate.name)
        trial.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"a hook of it is wrong: {error}") from error
    if not trial.get_hookcallers(plugin):
        hooks = sorted(trial.hook.__dict__)
        raise PluginError(
            f"its entry point {candidate.entry_point.value!r} gives {_a(value)} without any hook; "
            f"hooks are marked with mlc_llm.plugin.hookimpl: {', '.join(hooks)}"
        )
    return plugin


def hook_order(plugin: object) -> int:
    """When a plugin's hooks are called, or a format is asked: lower is earlier.

    Raises:
        PluginError: its ``order`` is not an integer.
    """
    order = getattr(plugin, "order", DEFAULT_ORDER)
    if not isinstance(order, int) or isinstance(order, bool):
        raise PluginError(f"its order is {order!r}, not an integer")
    return order


_HOOKS = {LIBRARY: hookspecs.LibraryProviderHooks, OBSERVER: hookspecs.ObserverHooks}


def new_manager(kind: Kind) -> pluggy.PluginManager:
    """A pluggy manager that knows the hooks of a kind of plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(_HOOKS[kind])
    return manager


def _check_interface(plugin: object) -> None:
    version = getattr(plugin, "interface_version", INTERFACE_VERSION)
    if version in (INTERFACE_VERSION, INTERFACE_VERSION - 1) and not isinstance(version, bool):
        return
    newer = isinstance(version, int) and version > INTERFACE_VERSION
    remedy = "update mlc-llm" if newer else "update the plugin"
    raise PluginError(
        f"it is written for plugin interface {version!r}; this mlc-llm has interface "
        f"{INTERFACE_VERSION} and accepts {INTERFACE_VERSION - 1}: {remedy}"
    )


def _a(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"
