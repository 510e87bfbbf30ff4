"""``mlc_llm pull``: download models."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlc_llm.cli.output import say, say_path


@click.command(name="pull")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def command(models: tuple[str, ...], as_json: bool) -> None:
    """Download MODELs: HF://org/name, HF://org/name/model.gguf, or short names.

    `mlc_llm list` shows the short names. Where each model is, is written on stdout. What is here
    already is not downloaded again; a download that broke off is resumed.
    """
    from mlc_llm.weights.locate import resolve_model
    from mlc_llm.weights.stores.listing import size_of

    pulled = []
    for model in models:
        path = resolve_model(model, progress=True, to_run=False)
        if as_json:
            pulled.append({"name": model, "path": str(path), "bytes": size_of(path)})
        else:
            say_path(Path(path))
    if as_json:
        say(json.dumps({"models": pulled}, indent=2))
