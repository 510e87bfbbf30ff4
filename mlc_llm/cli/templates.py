"""``mlc_llm templates``: the conversation templates."""

from __future__ import annotations

import json
import logging
from typing import Any

import click

from mlc_llm.cli.output import say
from mlc_llm.cli.table import show_table
from mlc_llm.errors import MLCError
from mlc_llm.registry.discovery import TEMPLATE
from mlc_llm.registry.registry import Registry, default_registry


@click.command(name="templates")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with every field.")
def command(as_json: bool) -> None:
    """Show the conversation templates.

    Their names are what `conv_template` in mlc-chat-config.json and --conv-template take.
    """
    # What is wrong is in the table.
    logging.getLogger("mlc_llm").setLevel(logging.ERROR)
    templates = describe_templates(default_registry())
    if as_json:
        say(json.dumps({"templates": templates}, indent=2))
        return
    show_table(["name", "from", "roles", "stops at", "system message"], map(_row, templates))


def describe_templates(registry: Registry) -> list[dict[str, Any]]:
    """Every template: ``name``, ``distribution``, ``version``, ``template`` and ``problem``.

    ``template`` has all its fields, and is None where ``problem`` says why it cannot be used.
    """
    described = []
    for entry in registry.entries():
        if entry.kind != TEMPLATE.word:
            continue
        fields, problem = None, entry.reason
        if entry.active:
            try:
                fields = registry.template(entry.name).model_dump(mode="json")
            except MLCError as error:
                problem = str(error)
        described.append(
            {
                "name": entry.name,
                "distribution": entry.distribution,
                "version": entry.version,
                "template": fields,
                "problem": problem,
            }
        )
    return described


def _row(item: dict[str, Any]) -> list[str]:
    origin = f"{item['distribution']} {item['version']}".rstrip()
    template = item["template"]
    if template is None:
        return [item["name"], origin, "", "", f"cannot be used: {item['problem']}"]
    roles = ", ".join(_quoted(template["roles"][role]) for role in ("user", "assistant"))
    stops = [*map(_quoted, template["stop_str"]), *map(str, template["stop_token_ids"])]
    return [item["name"], origin, roles, ", ".join(stops), _short(template["system_message"])]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _short(text: str, most: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
