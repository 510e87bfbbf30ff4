"""``mlc_llm rm``: remove models from the disk."""

from __future__ import annotations

import json
import sys

import click

from mlc_llm.cli.output import say, visible
from mlc_llm.errors import MLCError
from mlc_llm.weights.sizes import size_text
from mlc_llm.weights.stores.removal import Removal, plan_removal


@click.command(name="rm")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def command(ctx: click.Context, models: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Remove MODELs, named as `mlc_llm list` shows them, with what was converted of them.

    Only what is in the hub's cache and in mlc_llm's own is removed. The hub's cache is shared with
    other programs. HF://org/name means all that was downloaded of a repository.
    """
    removals = [removal for model in models for removal in plan_removal(model)]
    if not yes and not _agreed(removals):
        say("Nothing was removed.", err=True)
        ctx.exit(1)
    for removal in removals:
        removal.carry_out()
        if not as_json:
            say(f"removed {_line(removal)}")
    if as_json:
        removed = [
            {"name": r.what, "store": r.store, "bytes": r.nbytes, "paths": [*map(str, r.paths)]}
            for r in removals
        ]
        say(json.dumps({"removed": removed}, indent=2))


def _agreed(removals: list[Removal]) -> bool:
    """Ask on the terminal.

    Raises:
        MLCError: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise MLCError(
            "There is no terminal to ask on, so nothing was removed. Give --yes to remove without "
            "being asked.",
            code="consent-missing",
        )
    for removal in removals:
        say(_line(removal), err=True)
    total = size_text(sum(removal.nbytes for removal in removals))
    return click.confirm(visible(f"Remove this ({total})?"), err=True)


def _line(removal: Removal) -> str:
    return f"{removal.what} ({removal.store}, {size_text(removal.nbytes)})"
