"""An answer on its way to the terminal, or to a pipe."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import click

from mlc_llm.cli.app import remark

if TYPE_CHECKING:
    from mlc_llm.chat.streams import StreamChunk
    from mlc_llm.runtime.answer import Limit

_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
"""Characters that would be commands for the terminal; a model has none to give."""

_NARROWEST = 20
"""Columns below which words are not kept together."""


def write_answer(stream: Generator[StreamChunk, None, None]) -> None:
    """Write an answer to stdout as it comes; on stderr, what cut it.

    An interrupted one is closed, so that the chat goes on.
    """
    on_terminal = sys.stdout.isatty()
    wrap = WordWrap(_columns()) if on_terminal else None
    last, limit, tokens = "", None, 0
    try:
        for chunk in stream:
            text = chunk.translate(_CONTROLS) if on_terminal else str(chunk)
            last, limit, tokens = text or last, chunk.limit, tokens + len(chunk.token_ids)
            sys.stdout.write(text if wrap is None else wrap.push(text))
            sys.stdout.flush()
    except KeyboardInterrupt:
        if last or on_terminal:
            click.echo()
        raise
    finally:
        stream.close()
    if not last.endswith("\n"):
        click.echo()
    if limit is not None:
        click.echo(remark(_what_cut_it(limit, tokens, on_terminal), dim=True), err=True)


def _what_cut_it(limit: Limit, tokens: int, on_terminal: bool) -> str:
    if limit == "context_window":
        return "(The answer was cut: the context window is full.)"
    goes_on = "; /continue goes on" if on_terminal else ""
    return f"(The answer was cut after {tokens} tokens, its max_gen_len{goes_on}.)"


def _columns() -> int | None:
    """Columns of the terminal; None where its lines cannot be written again."""
    if os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        return None
    columns = shutil.get_terminal_size().columns
    return columns if columns >= _NARROWEST else None


def _width(character: str) -> int:
    """Columns that a character takes."""
    if character.isascii():
        return int(character.isprintable())
    from wcwidth import wcwidth  # slow to import, and most text needs none of it

    return max(0, wcwidth(character))


class WordWrap:
    """Breaks lines between words while the text comes in pieces.

    A word is written as it comes; when it turns out to be too long for its line, it is taken back
    and written again on the next one.

    Args:
        columns: of the terminal; None for text that stays as it is.
    """

    def __init__(self, columns: int | None) -> None:
        # In the last column the cursor is where terminals do not agree.
        self._most = None if columns is None else columns - 1
        self._column = 0
        self._word, self._width = "", 0

    def push(self, text: str) -> str:
        """What to write for the next piece."""
        return text if self._most is None else "".join(map(self._written, text))

    def _written(self, character: str) -> str:
        if character == "\n":
            return self._break()
        width = 8 - self._column % 8 if character == "\t" else _width(character)
        written = ""
        if self._column + width > (self._most or 0):
            if character.isspace():
                return self._break()
            written = self._next_line()
        if character.isspace():
            self._word, self._width = "", 0
        else:
            self._word, self._width = self._word + character, self._width + width
        self._column += width
        return written + character

    def _next_line(self) -> str:
        """Take the word that was begun to the next line, if it does not fill this one."""
        word, width = self._word, self._width
        if not word or width == self._column:
            return self._break()
        begun = f"\x1b[{width}D\x1b[K{self._break()}{word}"
        self._column, self._word, self._width = width, word, width
        return begun

    def _break(self) -> str:
        self._column, self._word, self._width = 0, "", 0
        return "\n"
