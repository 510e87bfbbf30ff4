"""The standard streams of a command: there is one of each, and writing to it fails at most once.

Under cron, in a daemon, with ``>&-`` or ``pythonw`` some of them are closed. Python then has None
in their place, and the next file that is opened gets their number, so that what a library or a
child process prints would be written into it.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

_NOWHERE = Path(os.devnull)


def prepare_streams() -> None:
    """Open the streams that are closed, on nothing, and never fail for an encoding."""
    _fill_numbers()
    if sys.stdin is None:
        sys.stdin = _NOWHERE.open(encoding="utf-8")
    if sys.stdout is None:
        sys.stdout = _NOWHERE.open("w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = _NOWHERE.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal's encoding may lack a character.
            stream.reconfigure(errors="replace")


def drop_unwritten() -> None:
    """Let go of what could not be written: Python would fail at it again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with _NOWHERE.open("w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _fill_numbers() -> None:
    """Open the null device under each of the numbers 0, 1 and 2 that are free."""
    while True:
        number = os.open(_NOWHERE, os.O_RDWR)
        if number > 2:
            os.close(number)
            return
        # Inherited by child processes, as the standard streams are.
        os.set_inheritable(number, True)
