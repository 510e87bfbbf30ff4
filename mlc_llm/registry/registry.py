"""The registry: finds plugins, loads the ones that are asked for, and remembers what failed.

Names are listed without importing anything. A plugin is imported when it is looked up by name;
library providers when the first library is searched for, observers with the first event. One that
fails is recorded with its distribution, its version, the reason and the traceback; its error
reaches only the caller that asked for it by name.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import Any

from mlc_llm.errors import DeviceError, PluginError, unknown
from mlc_llm.plugin.architecture import Architecture
from mlc_llm.plugin.catalog import Catalog
from mlc_llm.plugin.device import Device
from mlc_llm.plugin.source import SourceFormat
from mlc_llm.plugin.template import ConversationTemplate
from mlc_llm.registry.discovery import (
    ARCHITECTURE,
    CATALOG,
    DEVICE,
    KINDS,
    LIBRARY,
    OBSERVER,
    PLUGINS_VARIABLE,
    SOURCE,
    TEMPLATE,
    Allowed,
    Kind,
    candidates_of,
    discover,
    find_kind,
)
from mlc_llm.registry.entry import Plugin, PluginEntry, State
from mlc_llm.registry.hooks import HookCallers, Reply

__all__ = ["PluginEntry", "Registry", "Reply", "State", "default_registry"]

logger = logging.getLogger("mlc_llm")

GPU_EXTRAS = ("cuda", "metal", "vulkan")
"""Devices that an extra of the core's distribution installs."""


class Registry:
    """The installed plugins.

    Args:
        entry_points: the plugins; by default those of the installed distributions.
        allowed: which plugins may be used, as in ``MLC_LLM_PLUGINS``; by default what that
            variable says. See :class:`mlc_llm.registry.discovery.Allowed`.

    Raises:
        PluginError: an item of ``allowed`` is malformed.
    """

    def __init__(
        self,
        entry_points: Iterable[EntryPoint] | None = None,
        allowed: Sequence[str] | None = None,
    ) -> None:
        self.problems: list[str] = []
        """What is wrong outside of single plugins: unreadable metadata, names that match none."""
        if entry_points is None:
            candidates, self.problems = discover()
        else:
            candidates = list(candidates_of(entry_points))
        order = {kind.group: i for i, kind in enumerate(KINDS)}
        candidates.sort(key=lambda c: (order[c.kind.group], c.name, c.distribution))
        choice = Allowed.from_environment() if allowed is None else Allowed(allowed)
        self._plugins = [Plugin(candidate) for candidate in candidates]
        self._choose(choice)
        installed = sorted({c.distribution for c in candidates})
        self.problems += [
            f"{PLUGINS_VARIABLE}: " + unknown("plugin", item, installed)
            for item in choice.unmatched(candidates)
        ]
        for problem in self.problems:
            logger.warning("%s", problem)
        self._lock = threading.RLock()
        self._callers: dict[Kind, HookCallers] = {}

    def _choose(self, allowed: Allowed) -> None:
        """Deactivate what the user's list leaves out or ranks below another of the same name."""
        best: dict[tuple[str, str], int] = {}
        for plugin in self._plugins:
            key = (plugin.candidate.kind.group, plugin.candidate.name)
            best[key] = max(best.get(key, 0), allowed.rank(plugin.candidate))
        for plugin in self._plugins:
            candidate, rank = plugin.candidate, allowed.rank(plugin.candidate)
            if rank == 0:
                plugin.active = False
                plugin.reason = (
                    f"{PLUGINS_VARIABLE} leaves it out; add {candidate.distribution!r} to use it"
                )
            elif rank < best[candidate.kind.group, candidate.name]:
                plugin.active = False
                plugin.reason = f"{PLUGINS_VARIABLE} chooses another plugin of this name"

    def names(self, kind: str) -> list[str]:
        """The names of a kind's plugins, sorted; nothing is imported.

        Args:
            kind: ``"device"``, ``"library provider"``, ``"conversation template"``,
                ``"architecture"``, ``"observer"``, ``"source"``, ``"catalogue"``, or the
                entry-point group.
        """
        wanted = find_kind(kind)
        return sorted({p.candidate.name for p in self._of(wanted) if p.active})

    def entries(self) -> list[PluginEntry]:
        """What is known of every plugin, those that are left out included."""
        return [plugin.snapshot() for plugin in self._plugins]

    def entry(self, kind: str, name: str) -> PluginEntry:
        """What is known of one plugin; raises as the look-ups by name do for an unknown name."""
        return self._find(find_kind(kind), name).snapshot()

    def device(self, name: str) -> Device:
        """Return the device of that name.

        Raises:
            DeviceError: there is none.
            PluginError: its plugin is broken, or there are two.
        """
        device: Device = self._find(DEVICE, name).load()
        return device

    def architecture(self, name: str) -> Architecture:
        """Return the architecture of that name; raises PluginError when there is none."""
        architecture: Architecture = self._selected(ARCHITECTURE, name)
        return architecture

    def template(self, name: str) -> ConversationTemplate:
        """Return the conversation template of that name.

        Raises:
            TemplateError: there is none.
            PluginError: its plugin is broken, or there are two.
        """
        template: ConversationTemplate = self._selected(TEMPLATE, name)
        return template

    def provider(self, name: str) -> Any:
        """Return the library provider of that name; raises PluginError when there is none."""
        return self._find(LIBRARY, name).load()

    def source_format(self, name: str) -> SourceFormat:
        """Return the format of checkpoints of that name; raises PluginError when there is none."""
        found: SourceFormat = self._selected(SOURCE, name)
        return found

    def source_formats(self) -> list[SourceFormat]:
        """The formats of checkpoints in the order in which they are asked.

        One that cannot be loaded is recorded and warned of, and left out.
        """
        active = [plugin for plugin in self._of(SOURCE) if plugin.active]
        usable = [p for p in active if not self._rivalled(p, active) and p.attempt()]
        formats: list[SourceFormat] = [plugin.value for plugin in usable]
        return sorted(formats, key=lambda one: (one.order, one.name))

    def catalogs(self) -> dict[str, Catalog]:
        """The catalogues that can be used, by their names; the others are warned of."""
        active = [plugin for plugin in self._of(CATALOG) if plugin.active]
        usable = [p for p in active if not self._rivalled(p, active) and p.attempt()]
        return {plugin.candidate.name: plugin.value for plugin in usable}

    def load_all(self) -> None:
        """Load every active plugin, so that :meth:`entries` says which of them are broken."""
        for plugin in self._plugins:
            if plugin.active:
                plugin.attempt()
                self._rivalled(plugin, [p for p in self._of(plugin.candidate.kind) if p.active])

    def mark(self, kind: str, name: str, state: State, reason: str = "") -> None:
        """Record that a plugin was found available or was selected, or why it is not."""
        plugin = self._find(find_kind(kind), name)
        with plugin.lock:
            if reason:
                plugin.reason = reason
            else:
                plugin.advance(state)

    def ask(self, hook: str, **arguments: Any) -> Iterator[Reply]:
        """Call a hook of one library provider after the other, and yield what each says.

        A provider that raises is recorded, and its reply has the error's text.
        """
        return self._callers_of(LIBRARY).call(hook, **arguments)

    def notify(self, hook: str, **arguments: Any) -> None:
        """Tell every observer of an event; one that raises is recorded and warned of."""
        for reply in self._callers_of(OBSERVER).call(hook, **arguments):
            if reply.error:
                logger.warning("Plugin %r failed in %s: %s", reply.plugin, hook, reply.error)

    def _callers_of(self, kind: Kind) -> HookCallers:
        with self._lock:
            if kind not in self._callers:
                active = [plugin for plugin in self._of(kind) if plugin.active]
                unrivalled = [plugin for plugin in active if not self._rivalled(plugin, active)]
                self._callers[kind] = HookCallers(kind, unrivalled)
            return self._callers[kind]

    def _rivalled(self, plugin: Plugin, active: Sequence[Plugin]) -> bool:
        """Whether another active plugin has the same name; that is recorded and warned of."""
        same = [other for other in active if other.candidate.name == plugin.candidate.name]
        if len(same) > 1 and not plugin.failed:
            plugin.reason = self._ambiguous(same)
            logger.warning("%s", plugin.reason)
        return len(same) > 1

    def _of(self, kind: Kind) -> list[Plugin]:
        return [plugin for plugin in self._plugins if plugin.candidate.kind is kind]

    def _selected(self, kind: Kind, name: str) -> Any:
        plugin = self._find(kind, name)
        value = plugin.load()
        plugin.advance(State.SELECTED)
        return value

    def _find(self, kind: Kind, name: str) -> Plugin:
        named = [plugin for plugin in self._of(kind) if plugin.candidate.name == name]
        active = [plugin for plugin in named if plugin.active]
        if len(active) == 1:
            return active[0]
        if active:
            raise PluginError(self._ambiguous(active), code="plugin-ambiguous")
        if named:
            candidate = named[0].candidate
            raise kind.error(
                f"The {kind.word} {name!r} of {candidate.origin} is installed, but "
                f"{named[0].reason}.",
                code="plugin-left-out",
            )
        if kind is DEVICE and name.lower() in GPU_EXTRAS:
            raise DeviceError(
                f"The device {name!r} is not installed. Install it with "
                f"`pip install mlc-llm[{name.lower()}]`. "
                f"Installed: {', '.join(self.names(kind.group)) or 'none'}.",
                code="device-not-installed",
            )
        raise kind.error(unknown(kind.word, name, self.names(kind.group)), code=kind.code)

    def _ambiguous(self, plugins: Sequence[Plugin]) -> str:
        first = plugins[0].candidate
        origins = sorted(plugin.candidate.origin for plugin in plugins)
        return (
            f"Several distributions have a {first.kind.word} {first.name!r}: "
            f"{', '.join(origins)}. Uninstall all but one, or choose with "
            f"{PLUGINS_VARIABLE}={first.distribution}:{first.name}."
        )


_default: Registry | None = None
_default_lock = threading.Lock()


def default_registry() -> Registry:
    """The registry of the installed plugins, made when it is first asked for.

    Raises:
        PluginError: ``MLC_LLM_PLUGINS`` is malformed.
    """
    global _default
    with _default_lock:
        if _default is None:
            _default = Registry()
        return _default
