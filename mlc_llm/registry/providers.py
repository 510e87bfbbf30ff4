"""The library providers as one: which of them work, in which order, and what each answers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pluggy

from mlc_llm.registry.entry import Plugin, describe
from mlc_llm.registry.validation import new_manager, provider_order

logger = logging.getLogger("mlc_llm")


@dataclass(frozen=True)
class Answer:
    """What one provider answered to a hook, or why it did not.

    Args:
        provider: the provider's name.
        value: what it returned.
        error: what it raised, as text; empty when it returned.
    """

    provider: str
    value: Any = None
    error: str = ""


class Providers:
    """The working library providers, each asked by itself so that none can spoil the search.

    Args:
        plugins: the providers that may be used; those that cannot be loaded are left out.
    """

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        working = [plugin for plugin in plugins if plugin.attempt()]
        # pluggy calls what was registered last first.
        working.sort(key=lambda p: (provider_order(p.value), p.candidate.name), reverse=True)
        self._plugins: list[Plugin] = []
        self._manager = new_manager()
        for plugin in working:
            try:
                self._manager.register(plugin.value, name=plugin.candidate.name)
            except ValueError as error:
                # Two entries with one object.
                plugin.blame(describe(error), error)
                logger.warning("Plugin %r: %s", plugin.candidate.name, plugin.reason)
            else:
                self._plugins.insert(0, plugin)

    @property
    def hook(self) -> pluggy.HookRelay:
        """pluggy's own view: a call through it stops at the first provider that raises."""
        return self._manager.hook

    def ask(self, hook: str, **arguments: Any) -> Iterator[Answer]:
        """Call a hook of one provider after the other, and yield what each says.

        A provider that raises is recorded, and answers with the error's text.
        """
        everybody: pluggy.HookCaller = getattr(self._manager.hook, hook)
        asked = {id(implementation.plugin) for implementation in everybody.get_hookimpls()}
        for plugin in self._plugins:
            if id(plugin.value) not in asked:
                continue
            others = [p.value for p in self._plugins if p is not plugin]
            caller = self._manager.subset_hook_caller(hook, others)
            origin = plugin.candidate.origin
            try:
                value = caller(**arguments)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                plugin.blame(f"its hook {hook} raised {describe(error)}", error)
                yield Answer(plugin.candidate.name, error=f"{origin} raised {describe(error)}")
            else:
                yield Answer(plugin.candidate.name, value)

    def notify(self, hook: str, **arguments: Any) -> None:
        """Tell every provider of an event; one that raises is recorded and warned of."""
        for answer in self.ask(hook, **arguments):
            if answer.error:
                logger.warning("Plugin %r failed in %s: %s", answer.provider, hook, answer.error)
