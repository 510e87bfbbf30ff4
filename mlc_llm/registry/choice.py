"""Choosing the device: by name, or the best one that is available."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlc_llm.errors import DeviceError, PluginError
from mlc_llm.plugin.device import Adapter, Availability, Device
from mlc_llm.registry.discovery import DEVICE
from mlc_llm.registry.probing import probe
from mlc_llm.registry.registry import Registry, State, default_registry
from mlc_llm.shown import shown

logger = logging.getLogger("mlc_llm")

AUTO = "auto"
DEVICE_VARIABLE = "MLC_LLM_DEVICE"
"""The environment variable that stands in for ``auto``."""

_FORM = re.compile(r"(?P<name>[^\s:]+)(:(?P<index>[0-9]{1,9}))?")


@dataclass(frozen=True)
class Considered:
    """A device that ``auto`` looked at and did not take.

    Args:
        name: the device's name.
        reason: why it was not taken.
        remedy: what the user can do about it; empty when there is nothing to do, as where the
            machine merely lacks the hardware.
    """

    name: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {sentence(self.reason, self.remedy)}"


@dataclass(frozen=True)
class Choice:
    """The device that was chosen.

    Args:
        device: the device.
        index: which of its adapters.
        adapter: that adapter.
        considered: the devices that were not taken, and why; empty when one was named.
    """

    device: Device
    index: int
    adapter: Adapter
    considered: tuple[Considered, ...] = ()

    def __str__(self) -> str:
        return f"{self.device.name}:{self.index}"


def choose_device(name: str = AUTO, registry: Registry | None = None) -> Choice:
    """Return the device to use.

    Args:
        name: ``auto``, a device's name, or ``name:index``. ``auto`` is what the environment
            variable ``MLC_LLM_DEVICE`` says or else the available device of highest priority.
        registry: where devices are looked up; by default among the installed plugins.

    Where ``auto`` passes over a device of higher priority, it logs why: as a warning when the
    user can do something about it, else (the machine lacks the hardware) as information. It passes
    over adapters that compute on the CPU in software, and takes one only where there is no other
    device.

    Raises:
        DeviceError: the name is malformed or unknown, the device is not available, it has no
            adapter of that index, or ``auto`` finds none.
        PluginError: the named device's plugin is broken, or two have that name.
    """
    registry = registry or default_registry()
    origin = ""
    if name == AUTO:
        named = os.environ.get(DEVICE_VARIABLE, "").strip()
        if named:
            name, origin = named, f" ({DEVICE_VARIABLE} names it)"
    choice = _best(registry) if name == AUTO else _named(name, origin, registry)
    registry.mark(DEVICE.word, choice.device.name, State.SELECTED)
    return choice


def sentence(reason: str, remedy: str = "") -> str:
    """A reason and its remedy as sentences."""
    parts = [part.strip().rstrip(".") for part in (reason, remedy)]
    return " ".join(f"{part[0].upper()}{part[1:]}." for part in parts if part)


def parse_device(name: str) -> tuple[str, int]:
    """Split ``name`` or ``name:index``; the index is 0 by default.

    Raises:
        DeviceError: the text has another form.
    """
    match = _FORM.fullmatch(name)
    if match is None or (match["name"] == AUTO and match["index"]):
        raise DeviceError(
            f"{shown(name)} does not name a device. Give 'auto', a name such as 'cpu', or a name "
            "and an index such as 'cuda:1'.",
            code="device-name-malformed",
        )
    return match["name"], int(match["index"] or 0)


def device_named(name: str, registry: Registry | None = None) -> Device:
    """Return the device of a name, which need not be available here; it is not probed.

    Args:
        name: the device's name. An index is left out of account.
        registry: where it is looked up; by default among the installed plugins.

    Raises:
        DeviceError: the name is ``auto``, malformed or unknown.
        PluginError: the device's plugin is broken, or two have that name.
    """
    device, _ = parse_device(name)
    if device == AUTO:
        raise DeviceError(
            "Which device it is must be said by its name here, as in 'cuda', since 'auto' is one "
            "that is available.",
            code="device-unnamed",
        )
    return (registry or default_registry()).device(device)


def require_available(
    name: str, registry: Registry | None = None, *, fresh: bool = False, origin: str = ""
) -> Availability:
    """Return what a device's probe answers, if the device can be used.

    Args:
        name: the device's name.
        registry: where it is looked up; by default among the installed plugins.
        fresh: do not take an answer that an earlier process left.
        origin: what names the device, to follow its name in the message.

    Raises:
        DeviceError: it cannot be used; the message says why, and what to do.
    """
    availability = probe(name, registry, fresh=fresh)
    if availability.available:
        return availability
    raise unavailable(name, availability, origin)


def unavailable(name: str, availability: Availability, origin: str = "") -> DeviceError:
    """The error for a device that cannot be used; see :func:`require_available`."""
    return DeviceError(
        f"The device {shown(name)}{origin} is not available. "
        f"{sentence(availability.reason, availability.remedy)} `mlc_llm devices` shows all devices."
    )


def _named(name: str, origin: str, registry: Registry) -> Choice:
    device_name, index = parse_device(name)
    device = registry.device(device_name)
    availability = probe(device_name, registry)
    if index >= len(availability.adapters):
        # Before it is refused: an earlier process may have asked before the user mended it.
        availability = require_available(device_name, registry, fresh=True, origin=origin)
    if index >= len(availability.adapters):
        there = ", ".join(
            f"{device_name}:{i} ({adapter.name})" for i, adapter in enumerate(availability.adapters)
        )
        raise DeviceError(
            f"There is no device '{device_name}:{index}'{origin}. There is: {there}.",
            code="device-index-unknown",
        )
    return Choice(device, index, availability.adapters[index])


def _best(registry: Registry) -> Choice:
    considered: list[Considered] = []
    devices: list[Device] = []
    for name in registry.names(DEVICE.group):
        try:
            devices.append(registry.device(name))
        except PluginError as error:
            considered.append(Considered(name, str(error), "`mlc_llm plugins` tells more."))
    devices.sort(key=lambda device: (-device.priority, device.name))
    software: Choice | None = None
    for i, device in enumerate(devices):
        availability = probe(device.name, registry)
        if not availability.available:
            considered.append(Considered(device.name, availability.reason, availability.remedy))
            continue
        hardware = [k for k, adapter in enumerate(availability.adapters) if not adapter.software]
        if not hardware:
            software = software or Choice(device, 0, availability.adapters[0])
            considered.append(_software(device, availability))
            continue
        _log(device, considered)
        for other in devices[i + 1 :]:
            reason = f"{device.name} is available and has a higher priority"
            considered.append(Considered(other.name, reason))
        index = hardware[0]
        return Choice(device, index, availability.adapters[index], tuple(considered))
    if software is not None:
        others = tuple(item for item in considered if item.name != software.device.name)
        _log(software.device, others)
        return replace(software, considered=others)
    reasons = "".join(f"\n  {item}" for item in considered) or " No device is installed."
    raise DeviceError(f"No device is available.{reasons}")


def _software(device: Device, availability: Availability) -> Considered:
    names = ", ".join(adapter.name for adapter in availability.adapters)
    reason = f"{names} is not hardware of its own, but a driver that computes on the CPU"
    return Considered(device.name, reason, availability.remedy)


def _log(chosen: Device, passed_over: Iterable[Considered]) -> None:
    for item in passed_over:
        level = logging.WARNING if item.remedy else logging.INFO
        logger.log(level, "Using the device %s, not %s", chosen.name, item)
