"""``mlc_llm models``: the architectures and quantisations that can be run and converted."""

from __future__ import annotations

import json
import logging
from typing import Any

import click

from mlc_llm.cli.output import say
from mlc_llm.cli.table import show_table
from mlc_llm.errors import PluginError
from mlc_llm.plugin import Plan
from mlc_llm.quantization import PLANS
from mlc_llm.registry.discovery import ARCHITECTURE
from mlc_llm.registry.registry import Registry, default_registry


@click.command(name="models")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(as_json: bool) -> None:
    """Show the architectures and quantisations that can be run and converted.

    An architecture's name is the `model_type` of mlc-chat-config.json and of Hugging Face's
    config.json.
    """
    # What is wrong is in the table.
    logging.getLogger("mlc_llm").setLevel(logging.ERROR)
    architectures = describe_architectures(default_registry())
    quantizations = [describe_quantization(plan) for plan in PLANS.values()]
    if as_json:
        data = {"architectures": architectures, "quantizations": quantizations}
        say(json.dumps(data, indent=2))
        return
    show_table(
        ["architecture", "from", "usable", "what it is, or why not"],
        [_architecture_row(item) for item in architectures],
    )
    say()
    show_table(
        ["quantisation", "bits a weight", "weights a group", "other weights and scales"],
        [_quantization_row(item) for item in quantizations],
    )


def describe_architectures(registry: Registry) -> list[dict[str, Any]]:
    """Every architecture: ``name``, ``distribution``, ``version``, ``description``, ``problem``."""
    described = []
    for entry in registry.entries():
        if entry.kind != ARCHITECTURE.word:
            continue
        description, problem = "", entry.reason
        if entry.active:
            try:
                description = _first_line(registry.architecture(entry.name))
            except PluginError as error:
                problem = str(error)
        described.append(
            {
                "name": entry.name,
                "distribution": entry.distribution,
                "version": entry.version,
                "description": description,
                "problem": problem,
            }
        )
    return described


def describe_quantization(plan: Plan) -> dict[str, Any]:
    """A quantisation's fields; ``bits_per_weight`` counts the scales and minimums in."""
    scheme = plan.linear
    return {
        "name": plan.name,
        "bits": scheme.bits,
        "bits_per_weight": scheme.bits_per_weight,
        "group_size": scheme.group,
        "zero": None if scheme.is_float else "minimum" if scheme.zero is None else scheme.zero,
        "layout": scheme.layout,
        "model_dtype": plan.dtype,
    }


def _first_line(plugin: object) -> str:
    """The first line of the docstring of a plugin's own class, if it has one."""
    lines = (type(plugin).__doc__ or "").strip().splitlines()
    return lines[0].strip().replace("``", "") if lines else ""


def _architecture_row(item: dict[str, Any]) -> list[str]:
    origin = f"{item['distribution']} {item['version']}".rstrip()
    usable = "no" if item["problem"] else "yes"
    return [item["name"], origin, usable, item["problem"] or item["description"]]


def _quantization_row(item: dict[str, Any]) -> list[str]:
    group = str(item["group_size"]) if item["group_size"] > 1 else ""
    return [item["name"], f"{item['bits_per_weight']:g}", group, item["model_dtype"]]
