"""``mlc_llm devices``: the devices, and why they can or cannot be used."""

from __future__ import annotations

import json
import logging
from typing import Any

import click

from mlc_llm.cli.output import say
from mlc_llm.cli.table import show_table
from mlc_llm.errors import DeviceError
from mlc_llm.plugin.device import Adapter
from mlc_llm.registry.choice import choose_device, sentence
from mlc_llm.registry.probing import probe_all


@click.command(name="devices")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(as_json: bool) -> None:
    """Show the devices, and why they can or cannot be used.

    The one that "auto" takes is marked with a star.
    """
    # The reasons that the choice would log are what is shown.
    logging.getLogger("mlc_llm").setLevel(logging.ERROR)
    devices = describe_devices()
    auto = _auto()
    if as_json:
        say(json.dumps({"auto": auto, "devices": devices}, indent=2))
        return
    rows = [row for device in devices for row in _rows(device, auto)]
    show_table(["", "device", "available", "memory", "what it is, or why not"], rows)


def describe_devices() -> list[dict[str, Any]]:
    """Every device: ``name``, ``available``, ``adapters``, ``reason`` and ``remedy``."""
    return [
        {
            "name": name,
            "available": availability.available,
            "adapters": [
                _adapter(name, i, adapter) for i, adapter in enumerate(availability.adapters)
            ],
            "reason": availability.reason,
            "remedy": availability.remedy,
        }
        for name, availability in probe_all(fresh=True).items()
    ]


def _adapter(device: str, index: int, adapter: Adapter) -> dict[str, Any]:
    return {
        "device": f"{device}:{index}",
        "name": adapter.name,
        "memory": adapter.memory,
        "software": adapter.software,
        "shares_memory": adapter.shares_memory,
        "float16": adapter.float16,
        "largest_tensor": adapter.largest_tensor,
        "details": dict(adapter.details),
    }


def _auto() -> str | None:
    try:
        return str(choose_device())
    except DeviceError:
        return None


def _rows(device: dict[str, Any], auto: str | None) -> list[list[str]]:
    if not device["available"]:
        why = sentence(device["reason"], device["remedy"])
        return [["", device["name"], "no", "", why]]
    rows = []
    for adapter in device["adapters"]:
        memory = f"{adapter['memory'] / 2**30:.1f} GiB" if adapter["memory"] else ""
        details = ", ".join(f"{key} {value}" for key, value in adapter["details"].items())
        what = f"{adapter['name']} ({details})" if details else adapter["name"]
        star = "*" if adapter["device"] == auto else ""
        rows.append([star, adapter["device"], "yes", memory, what])
    return rows
