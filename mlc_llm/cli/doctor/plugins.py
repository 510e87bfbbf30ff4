"""The plugins, and whether the devices among them can be used here."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mlc_llm.cli.doctor.finding import REPORT, Finding, Status
from mlc_llm.cli.doctor.trial import TRIAL_MODULE, TRIAL_SECONDS
from mlc_llm.errors import DeviceError, MLCError
from mlc_llm.plugin.device import Availability
from mlc_llm.registry.child import python_command, python_environment, run_child
from mlc_llm.registry.choice import choose_device
from mlc_llm.registry.discovery import OWN_DISTRIBUTIONS, PLUGINS_VARIABLE, canonical
from mlc_llm.registry.probing import probe_all
from mlc_llm.registry.registry import PluginEntry, Registry

_LISTED = 12
"""How many plugins of one distribution a line names."""


def check_plugins(registry: Registry) -> Iterator[Finding]:
    """Every distribution with plugins as one line, and every plugin that is not well as its own."""
    registry.load_all()
    well: dict[str, list[str]] = {}
    for entry in registry.entries():
        if entry.active and not entry.reason:
            well.setdefault(_origin(entry), []).append(entry.name)
    for origin, names in sorted(well.items()):
        yield Finding("plugins", origin, Status.OK, _some_of(sorted(names)))
    for entry in registry.entries():
        if entry.reason:
            yield plugin_finding(entry)
    for problem in registry.problems:
        remedy = (
            f"Correct {PLUGINS_VARIABLE}."
            if problem.startswith(PLUGINS_VARIABLE)
            else "Reinstall that distribution, or uninstall it."
        )
        yield Finding("plugins", "installation", Status.BROKEN, problem, remedy)


def _some_of(names: list[str]) -> str:
    """Names, or the first ones and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def plugin_finding(entry: PluginEntry) -> Finding:
    """What is wrong with one plugin, or that the user left it out."""
    name = f"{entry.kind} {entry.name}"
    detail = f"{_origin(entry)}: {entry.reason}"
    if not entry.active:
        return Finding("plugins", name, Status.ABSENT, detail)
    own = canonical(entry.distribution) in OWN_DISTRIBUTIONS
    remedy = (
        f"Reinstall it: python -m pip install --force-reinstall {entry.distribution}"
        if own
        else f"Update or uninstall {entry.distribution}. `mlc_llm plugins --json` tells more."
    )
    return Finding("plugins", name, Status.BROKEN, detail, remedy)


def check_devices(registry: Registry) -> Iterator[Finding]:
    """Whether each device can be used, and which one ``auto`` takes.

    A device that is not available is broken when there is something to do about it; one that the
    machine merely lacks is absent.
    """
    for name, availability in probe_all(registry, fresh=True).items():
        yield device_finding(name, availability)
        yield from trial_findings(name, registry)
    try:
        choice = choose_device(registry=registry)
    except (DeviceError, MLCError) as error:
        remedy = "Set MLC_LLM_DEVICE to a device that is available, or unset it."
        yield Finding("devices", "auto", Status.BROKEN, str(error), remedy)
    else:
        yield Finding("devices", "auto", Status.OK, str(choice))


def device_finding(name: str, availability: Availability) -> Finding:
    """What a device answered."""
    if availability.available:
        adapters = ", ".join(adapter.name for adapter in availability.adapters)
        # There is software in place of hardware, and something to do about it.
        status = Status.WARNING if availability.remedy else Status.OK
        return Finding("devices", name, status, adapters, availability.remedy)
    status = Status.BROKEN if availability.remedy else Status.ABSENT
    return Finding("devices", name, status, availability.reason, availability.remedy)


def trial_findings(name: str, registry: Registry) -> Iterator[Finding]:
    """What a device is made of, each step tried in a child process.

    Args:
        name: the device's.
        registry: where it is looked up.
    """
    try:
        steps = [*registry.device(name).trials()]
    except MLCError:
        return  # What is wrong with a plugin is said of it.
    if not steps:
        return
    command = python_command(TRIAL_MODULE, "device", name)
    outcome = run_child(command, python_environment({"TVM_USE_RUNTIME_LIB": None}), TRIAL_SECONDS)
    said = [json.loads(line) for line in outcome.stdout.splitlines() if line.startswith("{")]
    for one in said:
        yield Finding(name, one["step"], Status(one["status"]), one["detail"], one["remedy"])
    if len(said) < len(steps):
        detail = f"trying it {outcome.ending()}"
        if words := outcome.last_words():
            detail += f"; it said: {words}"
        yield Finding(name, steps[len(said)], Status.BROKEN, detail, REPORT)


def _origin(entry: PluginEntry) -> str:
    return f"{entry.distribution} {entry.version}".rstrip()
