"""Tables: drawn by rich on a terminal, else aligned plain text that other programs can read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from mlc_llm.cli.output import say, visible


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table on stdout.

    Args:
        header: the columns' names.
        rows: as many texts a row as there are columns; the last column may be long.
    """
    if sys.stdout.isatty():
        _draw(header, rows)
        return
    lines = [[visible(cell).replace("\n", " ") for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        say("  ".join(cells).rstrip())


def _draw(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header[:-1]:
        table.add_column(name, no_wrap=True)
    table.add_column(header[-1], overflow="fold")
    for row in rows:
        # Text, so that brackets in names are not taken for rich's markup.
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console().print(table)
