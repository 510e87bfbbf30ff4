"""Reading what the user enters on a terminal: with a line editor where the terminal is able."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from mlc_llm.cli.chat.entry import is_open
from mlc_llm.cli.chat.history_file import HistoryFile
from mlc_llm.errors import MLCError

PROMPT = ">>> "
CONTINUATION = "... "

logger = logging.getLogger("mlc_llm")

Reader = Callable[[], str]
"""Returns what was entered.

It raises ``EOFError`` for Ctrl-D and ``KeyboardInterrupt`` for Ctrl-C where nothing was typed.
"""


def open_reader(history: Path | None) -> Reader:
    """What reads entries from this terminal.

    Args:
        history: the file of earlier entries; None keeps none. One that cannot be used is told of
            in a warning, and none is kept.
    """
    if not _can_edit():
        with contextlib.suppress(ImportError):
            # Editing within a line, where Python has it.
            import readline  # noqa: F401
        return read_plainly
    from mlc_llm.cli.chat.line_editor import LineEditor

    return LineEditor(_open_history(history)).read


def read_plainly() -> str:
    """Read an entry line by line, with nothing that needs a terminal."""
    text = _read_line(PROMPT)
    while True:
        if text.endswith("\\"):
            text = text[:-1]
        elif not is_open(text):
            return text
        text += "\n" + _read_line(CONTINUATION)


def _can_edit() -> bool:
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return not dumb and (sys.stdout.isatty() or sys.stderr.isatty())


def _open_history(path: Path | None) -> HistoryFile | None:
    if path is None:
        return None
    try:
        return HistoryFile(path)
    except OSError as error:
        logger.warning("No history is kept: %s: %s", path, error.strerror or error)
        return None


def _read_line(prompt: str) -> str:
    try:
        # With a prompt, input() writes it on stdout: only where that is the terminal.
        if sys.stdout.isatty():
            return input(prompt)
        click.echo(prompt, nl=False, err=True)
        return input()
    except UnicodeDecodeError as error:
        raise MLCError(f"That is not valid UTF-8: {error}.", code="input-undecodable") from None
    except EOFError:
        click.echo(err=True)
        raise
    except KeyboardInterrupt:
        click.echo(err=True)
        raise
