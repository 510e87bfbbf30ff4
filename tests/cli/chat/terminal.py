"""A terminal for tests: a pseudo-terminal with a program in it, and the screen as it is seen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyte

PATIENCE = 300.0
"""Seconds that a loaded machine may take for anything."""

UP, ALT_ENTER, CTRL_C, CTRL_D, ENTER, TAB = "\x1b[A", "\x1b\r", "\x03", "\x04", "\r", "\t"


def pasted(text: str) -> str:
    """What a terminal sends when text is pasted into it."""
    return f"\x1b[200~{text}\x1b[201~"


class Terminal:
    """A program in a terminal of its own.

    Args:
        arguments: what Python runs, as after ``python``.
        variables: environment variables to set.
        folder: the working folder, so that what is typed and shown can be short.
        stdout: a file for stdout, which is the terminal otherwise.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        variables: dict[str, str],
        folder: Path,
        stdout: Any = None,
        rows: int = 60,
        columns: int = 100,
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen = pyte.Screen(columns, rows)
        # Programs ask where the cursor is, and a terminal answers.
        self._screen.write_process_input = lambda data: self.press(data)  # type: ignore[method-assign]
        self._stream = pyte.ByteStream(self._screen)
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            cwd=folder,
            stdin=theirs,
            stdout=theirs if stdout is None else stdout,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm-256color", **variables},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(theirs)

    @property
    def screen(self) -> str:
        """What is on the screen, without the empty ends of lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n")

    @property
    def last_line(self) -> str:
        """The last line of the screen that is not empty."""
        return self.screen.rpartition("\n")[2]

    def press(self, *keys: str) -> None:
        """Type characters, or what keys send."""
        os.write(self._ours, "".join(keys).encode())

    def enter(self, text: str) -> None:
        """Type a text, wait until it shows, and press Enter.

        What is typed sooner than a prompt is there may be taken by the terminal itself, and a
        prompt that is waited for next must be a new one.
        """
        self.press(text)
        self.wait(lambda: self.last_line not in (">>>", "..."), f"what was typed: {text}")
        self.press(ENTER)

    def expect(self, text: str, times: int = 1) -> str:
        """Wait until a text is on the screen, so many times; returns the screen."""
        return self.wait(lambda: self.screen.count(text) >= times, f"{text!r}, {times} times")

    def expect_prompt(self, last: str = ">>>") -> str:
        """Wait until the screen ends with a prompt, perhaps with text in it."""
        return self.wait(lambda: self.last_line == last, f"the prompt {last!r}")

    def wait(self, ready: Callable[[], bool], what: str) -> str:
        """Wait for something on the screen; returns the screen."""
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if time.monotonic() > deadline:
                raise AssertionError(f"Not seen: {what}. The screen:\n{self.screen}")
            if not self._read():
                assert ready(), f"The program ended without {what}. The screen:\n{self.screen}"
        return self.screen

    def ends(self) -> int:
        """Wait for the program's end; returns its exit code."""
        while self._read():
            pass
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        """End the program, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        """Take what the program writes; returns whether there may be more."""
        if not select.select([self._ours], [], [], 1.0)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the last program has left the terminal.
            return False
        self._stream.feed(data)
        return bool(data)


def mode(path: Path) -> int:
    """A file's permissions."""
    return path.stat().st_mode & 0o777


def _take_terminal() -> None:
    """Make stdin the session's terminal, so that Ctrl-C reaches the process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
