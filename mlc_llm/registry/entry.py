"""One plugin: its entry point, how far it has come, and what went wrong with it."""

from __future__ import annotations

import logging
import threading
import traceback
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlc_llm.errors import PluginError
from mlc_llm.registry.discovery import DEVICE, Candidate
from mlc_llm.registry.validation import validated

logger = logging.getLogger("mlc_llm")


class State(StrEnum):
    """How far a plugin has come. Each state includes those before it."""

    DISCOVERED = "discovered"
    """Its entry point is installed; nothing of it was imported."""
    LOADED = "loaded"
    """Its entry point was imported."""
    COMPATIBLE = "compatible"
    """It is of the right type and interface version."""
    AVAILABLE = "available"
    """It can be used here; of a device, that its hardware and drivers are there."""
    SELECTED = "selected"
    """It is in use."""


@dataclass(frozen=True)
class PluginEntry:
    """What is known of one plugin now.

    Args:
        kind: such as ``"device"``.
        name: the plugin's name.
        value: what its entry point names, as ``module:attribute``.
        distribution: the distribution that installed it.
        version: that distribution's version; empty when it has none.
        state: how far it has come.
        active: whether a look-up by name may find it.
        reason: why it is not active, not loaded, not compatible or not available; else empty.
        traceback: the traceback of the failure, if there was one.
    """

    kind: str
    name: str
    value: str
    distribution: str
    version: str
    state: State
    active: bool
    reason: str
    traceback: str


class Plugin:
    """A candidate, and what became of it. The lock is held while it is imported."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.lock = threading.RLock()
        self.loading = False
        self.state = State.DISCOVERED
        self.active = True
        self.reason = ""
        self.traceback = ""
        self.failed = False
        self.value: Any = None

    def snapshot(self) -> PluginEntry:
        candidate = self.candidate
        return PluginEntry(
            candidate.kind.word,
            candidate.name,
            candidate.entry_point.value,
            candidate.distribution,
            candidate.version,
            self.state,
            self.active,
            self.reason,
            self.traceback,
        )

    def advance(self, state: State) -> None:
        """Go on to a state; a plugin never falls back to an earlier one."""
        states = list(State)
        with self.lock:
            if states.index(state) > states.index(self.state):
                self.state = state

    def blame(self, reason: str, error: BaseException) -> None:
        """Record what went wrong; it does not by itself put the plugin out of use."""
        self.reason = reason
        self.traceback = "".join(traceback.format_exception(error))

    def attempt(self) -> bool:
        """Load a plugin that was not asked for by name: a failure is logged, not raised."""
        known = self.failed
        try:
            self.load()
        except PluginError as error:
            if not known:
                logger.warning("%s", error)
            return False
        return True

    def load(self) -> Any:
        """Import and validate the plugin, once; a failure is recorded and stays.

        Raises:
            PluginError: it cannot be loaded, or is being loaded by this very thread.
        """
        candidate = self.candidate
        what = f"The {candidate.kind.word} {candidate.name!r} of {candidate.origin}"
        with self.lock:
            if self.loading:
                raise PluginError(f"{what} asks for itself while it is imported.")
            if self.value is None and not self.failed:
                self.loading = True
                try:
                    self._import()
                finally:
                    self.loading = False
            if self.failed:
                raise PluginError(f"{what} cannot be used: {self.reason}. Update or uninstall it.")
            return self.value

    def _import(self) -> None:
        # A plugin's import may raise anything, SystemExit included; only Ctrl-C is the user's.
        try:
            value = self.candidate.entry_point.load()
            self.state = State.LOADED
            self.value = validated(self.candidate, value)
        except KeyboardInterrupt:
            self.state = State.DISCOVERED
            raise
        except BaseException as error:
            self.failed = True
            self.blame(describe(error), error)
            logger.debug("%s", self.traceback)
            return
        # Only a device depends on the machine; it becomes available when it is probed.
        self.state = State.COMPATIBLE if self.candidate.kind is DEVICE else State.AVAILABLE


def describe(error: BaseException) -> str:
    """An error's type and text on one line, even when the error cannot say its text."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(its text cannot be shown)"
    return f"{type(error).__name__}: {text}".rstrip(": .")
