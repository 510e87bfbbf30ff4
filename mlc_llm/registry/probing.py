"""Asking a device whether it can be used here, without letting its driver take us down.

A probe runs in a child process, ``python -m mlc_llm.registry.probing NAME``, which writes one JSON
object on its stdout. What crashes, hangs or answers nonsense is unavailable, with that reason. A
device that says ``probe_in_process`` is asked directly. Answers are kept as long as the registry,
and those of a device with a fingerprint also for later processes (:mod:`.probe_cache`).
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

from mlc_llm.errors import DeviceError, PluginError
from mlc_llm.plugin.device import Adapter, Availability, Device, Unavailable
from mlc_llm.registry.child import (
    Outcome,
    exit_with_parent,
    hidden,
    python_command,
    python_environment,
    run_child,
)
from mlc_llm.registry.discovery import DEVICE, PLUGINS_VARIABLE, UNNAMED
from mlc_llm.registry.entry import describe
from mlc_llm.registry.probe_cache import ProbeCache
from mlc_llm.registry.registry import Registry, State, default_registry

logger = logging.getLogger("mlc_llm")

TIMEOUT_VARIABLE = "MLC_LLM_PROBE_TIMEOUT"
DEFAULT_TIMEOUT = 10.0
"""Seconds that a probe may take; the variable above replaces it."""


class _Answers:
    """What the devices of one registry answered; each is asked once, also by two threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.locks: dict[str, threading.Lock] = {}
        self.known: dict[str, Availability] = {}
        self.kept: set[str] = set()
        """Those among the known that an earlier process left."""


_answers: WeakKeyDictionary[Registry, _Answers] = WeakKeyDictionary()
_answers_lock = threading.Lock()


def probe(
    name: str,
    registry: Registry | None = None,
    timeout: float | None = None,
    *,
    fresh: bool = False,
) -> Availability:
    """Say whether a device can be used here.

    Args:
        name: the device's name.
        registry: where it is looked up; by default among the installed plugins.
        timeout: seconds that the probe may take; by default ``MLC_LLM_PROBE_TIMEOUT`` or 10.
        fresh: do not take an answer that an earlier process left.

    Returns:
        What the device answered, or why it gave no answer. A broken plugin is unavailable.

    Raises:
        DeviceError: no device has that name.
    """
    registry = registry or default_registry()
    if name not in registry.names(DEVICE.group):
        registry.entry(DEVICE.word, name)
    with _answers_lock:
        answers = _answers.setdefault(registry, _Answers())
    with answers.lock:
        lock = answers.locks.setdefault(name, threading.Lock())
    with lock:
        if name not in answers.known or (fresh and name in answers.kept):
            _ask(registry, name, timeout, answers, fresh)
        return answers.known[name]


def probe_all(registry: Registry | None = None, *, fresh: bool = False) -> dict[str, Availability]:
    """Probe every device at once; by name. See :func:`probe` for the arguments."""
    registry = registry or default_registry()
    names = registry.names(DEVICE.group)
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        found = pool.map(lambda name: probe(name, registry, fresh=fresh), names)
        return dict(zip(names, found, strict=True))


def _ask(
    registry: Registry, name: str, timeout: float | None, answers: _Answers, fresh: bool
) -> None:
    """Put what a device answers, now or, unless ``fresh``, to an earlier process, into answers."""
    answers.kept.discard(name)
    try:
        device = registry.device(name)
    except PluginError as error:
        reason, remedy = str(error), "`mlc_llm plugins` tells more."
        answers.known[name] = Availability(reason=reason, remedy=remedy)
        return
    if device.probe_in_process:
        availability = probe_here(device)
    else:
        seconds = _seconds() if timeout is None else timeout
        cache = ProbeCache(device, registry.entry(DEVICE.word, name), seconds)
        kept = None if fresh else _kept(cache)
        if kept is not None:
            answers.kept.add(name)
        availability = kept or _probe_in_child(registry, name, seconds, cache)
    answers.known[name] = availability
    if availability.available:
        registry.mark(DEVICE.word, name, State.AVAILABLE)
    else:
        registry.mark(DEVICE.word, name, State.COMPATIBLE, availability.reason)


def _kept(cache: ProbeCache) -> Availability | None:
    """What an earlier process was answered, if that still counts."""
    answer = cache.load()
    try:
        return None if answer is None else _from_json(answer)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        logger.debug("The kept answer %s is not used: %r", cache.path, error)
        return None


def probe_here(device: Device) -> Availability:
    """Probe in this process; whatever the device raises or returns becomes an Availability."""
    try:
        answer: object = device.probe()
    except KeyboardInterrupt:
        raise
    except Unavailable as error:
        answer = error.availability
    except BaseException as error:
        logger.debug("Probing the device %r raised", device.name, exc_info=True)
        return Availability(
            reason=f"probing it raised {describe(error)}", remedy=_report_to_author()
        )
    try:
        if not isinstance(answer, Availability):
            raise TypeError(f"a {type(answer).__name__}, not an Availability")
        return _from_json(_to_json(answer))
    except (AttributeError, TypeError, ValueError) as error:
        return Availability(reason=f"its probe returned {error}", remedy=_report_to_author())


def _probe_in_child(
    registry: Registry, name: str, timeout: float, cache: ProbeCache
) -> Availability:
    """Ask a child process, and keep what became of it."""
    entry = registry.entry(DEVICE.word, name)
    # The child must find the plugin that is meant here, whatever else has its name.
    choice = None if entry.distribution == UNNAMED else f"{entry.distribution}:{name}"
    # A probe has no use for TVM's compiler, whose import takes longer than most drivers.
    changes = {"TVM_USE_RUNTIME_LIB": "1"}
    if choice is not None:
        changes[PLUGINS_VARIABLE] = choice
    try:
        command = python_command(__name__ if __name__ != "__main__" else _MODULE, name)
        outcome = run_child(command, python_environment(changes), timeout)
    except (OSError, PluginError) as error:
        return Availability(
            reason=f"it cannot be probed: {error}", remedy="Name the device that you want to use."
        )
    availability = _read(name, outcome, timeout)
    cache.save(_to_json(availability))
    return availability


def _read(name: str, outcome: Outcome, timeout: float) -> Availability:
    """What a child process answered, or how it failed to."""
    if outcome.returncode == 0:
        try:
            return _from_json(json.loads(outcome.stdout))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            logger.debug("Unreadable answer of %r: %r (%s)", name, outcome.stdout, error)
            reason = "its probe gave an answer that cannot be read"
    else:
        reason = f"its probe {outcome.ending()}"
    if outcome.returncode is None:
        reason += f" ({timeout:g} s)"
        remedy = f"Check the driver; {TIMEOUT_VARIABLE} gives it more seconds."
    else:
        remedy = "Check the driver; if it works, report this to the plugin's author."
    words = outcome.last_words()
    return Availability(reason=reason + (f"; it said: {words}" if words else ""), remedy=remedy)


def _seconds() -> float:
    text = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise DeviceError(
            f"{TIMEOUT_VARIABLE} is {text!r}; give a number of seconds above 0.",
            code="config-invalid",
        )
    return seconds


def _report_to_author() -> str:
    return "Report this to the plugin's author."


def _to_json(availability: Availability) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(Adapter)]
    return {
        "adapters": [
            {name: getattr(adapter, name) for name in names} | {"details": dict(adapter.details)}
            for adapter in availability.adapters
        ],
        "reason": availability.reason,
        "remedy": availability.remedy,
    }


def _from_json(data: Mapping[str, Any]) -> Availability:
    """Rebuild an answer; raises ``TypeError`` or ``KeyError`` where it is not what it must be."""
    adapters = [_adapter_from_json(item) for item in data["adapters"]]
    reason, remedy = data["reason"], data["remedy"]
    if not isinstance(reason, str) or not isinstance(remedy, str):
        raise TypeError(f"the reason {reason!r} and the remedy {remedy!r}")
    if not adapters and not reason:
        reason = "it says that it cannot be used, and not why"
    return Availability(tuple(adapters), reason, remedy)


def _adapter_from_json(item: Mapping[str, Any]) -> Adapter:
    known = {field.name: item[field.name] for field in dataclasses.fields(Adapter)}
    for name, kind in _ADAPTER_TYPES.items():
        if not isinstance(known[name], kind):
            raise TypeError(f"an adapter whose {name} is {known[name]!r}")
    known["details"] = {str(key): str(value) for key, value in known["details"].items()}
    return Adapter(**known)


_ADAPTER_TYPES: Mapping[str, Any] = {
    "name": str,
    "memory": int | None,
    "software": bool,
    "shares_memory": bool,
    "float16": bool,
    "largest_tensor": int | None,
}
"""What arrives as it was sent; details become text."""


_MODULE = "mlc_llm.registry.probing"


def main(arguments: list[str]) -> None:
    """The child: probe the named device and write the answer as JSON on stdout."""
    if len(arguments) != 1:
        sys.exit(f"usage: python -m {_MODULE} NAME")
    exit_with_parent()
    # Whatever a driver or a plugin prints must not mix with the answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        try:
            with hidden("torch"):
                availability = probe_here(default_registry().device(arguments[0]))
        except (DeviceError, PluginError) as error:
            availability = Availability(reason=str(error))
        json.dump(_to_json(availability), answer)
    # Drivers may crash or hang in their exit handlers; the answer is given.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
