"""What commands say. No text of a file, a name or an error can give commands to the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

_DIRECTIONS = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that let a text be shown in another order than it has."""

_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
} | {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *_DIRECTIONS, *range(0xD800, 0xE000))}


def visible(text: str) -> str:
    """A text with what a terminal would obey, and halves of surrogate pairs, as escapes.

    Newlines and tabs stay.
    """
    return text.replace("\r\n", "\n").translate(_ESCAPES)


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Write a text on stdout, or on stderr.

    Args:
        text: what to write; control characters in it are shown escaped.
        err: whether it goes to stderr.
        nl: whether a line end follows.
    """
    click.echo(visible(text), err=err, nl=nl)


def say_path(path: Path) -> None:
    """Write a path on stdout: byte for byte where another program reads it."""
    if sys.stdout.isatty():
        say(str(path))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(path) + b"\n")
    sys.stdout.buffer.flush()
