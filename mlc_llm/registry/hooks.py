"""The plugins of one kind whose hooks are called: which work, in which order, what each says."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pluggy

from mlc_llm.registry.discovery import Kind
from mlc_llm.registry.entry import Plugin, describe
from mlc_llm.registry.validation import hook_order, new_manager

logger = logging.getLogger("mlc_llm")


@dataclass(frozen=True)
class Reply:
    """What one plugin returned from a hook, or why it did not.

    Args:
        plugin: the plugin's name.
        value: what it returned.
        error: what it raised, as text; empty when it returned.
    """

    plugin: str
    value: Any = None
    error: str = ""


class HookCallers:
    """The working plugins of a kind, each called by itself, so that one that raises stops no other.

    Args:
        kind: their kind.
        plugins: those that may be used; those that cannot be loaded are left out.
    """

    def __init__(self, kind: Kind, plugins: Iterable[Plugin]) -> None:
        working = [plugin for plugin in plugins if plugin.attempt()]
        # pluggy calls what was registered last first.
        working.sort(key=lambda p: (hook_order(p.value), p.candidate.name), reverse=True)
        self._plugins: list[Plugin] = []
        self._manager = new_manager(kind)
        for plugin in working:
            try:
                self._manager.register(plugin.value, name=plugin.candidate.name)
            except ValueError as error:
                # Two entries with one object.
                plugin.blame(describe(error), error)
                logger.warning("Plugin %r: %s", plugin.candidate.name, plugin.reason)
            else:
                self._plugins.insert(0, plugin)

    def call(self, hook: str, **arguments: Any) -> Iterator[Reply]:
        """Call a hook of one plugin after the other, and yield what each says.

        A plugin that raises is recorded, and its reply has the error's text.
        """
        whole: pluggy.HookCaller = getattr(self._manager.hook, hook)
        having = {id(implementation.plugin) for implementation in whole.get_hookimpls()}
        for plugin in self._plugins:
            if id(plugin.value) not in having:
                continue
            others = [p.value for p in self._plugins if p is not plugin]
            caller = self._manager.subset_hook_caller(hook, others)
            name, origin = plugin.candidate.name, plugin.candidate.origin
            try:
                # pluggy collects what all return; here it is one, unless that is None.
                (value,) = caller(**arguments) or (None,)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                plugin.blame(f"its hook {hook} raised {describe(error)}", error)
                yield Reply(name, error=f"{origin} raised {describe(error)}")
            else:
                yield Reply(name, value)
