"""MkDocs hook: ``<!-- options: NAME -->`` becomes the usage and the options of that command.

They are read from the command line's own definition, so that the site cannot tell otherwise.
"""

from __future__ import annotations

import re
from typing import Any

import click
from mkdocs.exceptions import PluginError

from mlc_llm.cli.app import app

MARK = re.compile(r"^<!-- options: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the commands' usage and options in the place of the marks."""
    return MARK.sub(lambda match: describe(match[1]), markdown)


def describe(name: str) -> str:
    """A command's usage and options as Markdown.

    Raises:
        PluginError: there is no such command.
    """
    parent = click.Context(app, info_name="mlc_llm")
    command = app.get_command(parent, name)
    if command is None:
        raise PluginError(f"commands.md names the command {name!r}, which there is not.")
    context = click.Context(command, parent=parent, info_name=name)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [row for row in map(option_row, command.params) if row]
    table = ["| option | what it does | default |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"```text\n{usage}\n```", "", *table])


def option_row(parameter: click.Parameter) -> str | None:
    """One row of the table; None for what is no option, and for ``--help``."""
    if not isinstance(parameter, click.Option) or "--help" in parameter.opts or parameter.hidden:
        return None
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    value = "" if parameter.is_flag else f" {parameter.metavar or parameter.type.name.upper()}"
    given = isinstance(parameter.default, str | int | float) and not parameter.is_flag
    default = f"`{parameter.default}`" if given and parameter.default != "" else ""
    if parameter.required:
        default = "needed"
    return f"| {names}{value} | {cell(parameter.help or '')} | {default} |"


def cell(text: str) -> str:
    """Text that stands in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")
