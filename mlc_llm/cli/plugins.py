"""``mlc_llm plugins``: the installed plugins and their state."""

from __future__ import annotations

import dataclasses
import json
import logging

import click

from mlc_llm.cli.output import say
from mlc_llm.cli.table import show_table
from mlc_llm.registry.registry import default_registry


@click.command(name="plugins")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with tracebacks.")
def command(as_json: bool) -> None:
    """Show the installed plugins and their state.

    Every plugin is imported, so that broken ones show. Whether a device can be used here is shown
    by `mlc_llm devices`.
    """
    # What is wrong is in the table.
    logging.getLogger("mlc_llm").setLevel(logging.ERROR)
    registry = default_registry()
    registry.load_all()
    entries = registry.entries()
    if as_json:
        listed = [dataclasses.asdict(entry) for entry in entries]
        say(json.dumps({"plugins": listed, "problems": registry.problems}, indent=2))
        return
    show_table(
        ["kind", "name", "distribution", "version", "state", "reason"],
        [[e.kind, e.name, e.distribution, e.version, _state(e), e.reason] for e in entries],
    )
    for problem in registry.problems:
        say(f"Warning: {problem}", err=True)


def _state(entry: object) -> str:
    from mlc_llm.registry.registry import PluginEntry

    assert isinstance(entry, PluginEntry)
    return entry.state if entry.active else "left out"
