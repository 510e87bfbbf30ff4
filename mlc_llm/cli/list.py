"""``mlc_llm list``: the models on this machine, and those that a short name can fetch."""

from __future__ import annotations

import json

import click

from mlc_llm.cli.output import say
from mlc_llm.cli.table import show_table
from mlc_llm.weights.sizes import size_text
from mlc_llm.weights.stores import KeptModel, list_models


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(as_json: bool) -> None:
    """List the models on this machine, and those with a short name that can be downloaded.

    Each name can be given to `mlc_llm chat`. Models of ollama and LM Studio are run where they are.
    """
    models = list_models()
    if as_json:
        say(json.dumps({"models": [_described(model) for model in models]}, indent=2))
        return
    show_table(["name", "size", "kept by", "where it is"], map(_row, models))


def _described(model: KeptModel) -> dict[str, object]:
    return {
        "name": model.name,
        "store": model.store,
        "state": _state(model),
        "path": None if model.path is None else str(model.path),
        "bytes": model.nbytes,
        "note": model.note,
    }


def _state(model: KeptModel) -> str:
    """``here``, ``partial`` or, for what can be downloaded, ``available``."""
    if model.path is None:
        return "available"
    return "here" if model.whole else "partial"


def _row(model: KeptModel) -> list[str]:
    size = "?" if model.nbytes is None else size_text(model.nbytes)
    where = str(model.path) if model.path is not None else f"not downloaded yet: {model.note}"
    if model.path is not None and not model.whole:
        where = f"not all of it: {where}"
    return [model.name, size, model.store, where]
