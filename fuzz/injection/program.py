"""A command in a process of its own: what it says, how it ends, and what it leaves running."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fuzz.child import ROOT

HANG_SECONDS = 120.0
"""How long a command may take; on an idle machine none here takes 20."""
_MARK = "MLC_LLM_INJECTION"
_ORPHAN_SECONDS = 20.0
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")


class Unsound(Exception):
    """A finding: something that must hold after an accident does not."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: its exit status, negative for a signal.
        output: what it wrote on stdout.
        errors: what it wrote on stderr.
    """

    code: int
    output: str
    errors: str

    @property
    def words(self) -> str:
        return self.errors.strip()[-1500:]

    def require_sound(self) -> None:
        """Raise Unsound if it crashed, or failed with what is no error of ours."""
        name = signal.Signals(-self.code).name if self.code < 0 else ""
        if name in _CRASHES:
            raise Unsound(f"it crashed with {name}: {self.words}")
        if self.code == 1 and "Error [" not in self.errors:
            raise Unsound(f"it failed with no error of ours: {self.words}")
        if "This is not expected" in self.errors:
            raise Unsound(f"it met what it did not expect: {self.words}")

    def require_success(self, which: str) -> None:
        """Raise Unsound unless it did what it was asked for."""
        if self.code != 0:
            raise Unsound(f"{which} ended with {self.code}: {self.words}")


class Program:
    """A command that runs.

    Args:
        command: the command.
        variables: environment variables that it has besides ours.
        before: called in the new process before it becomes the command, as for limits.
    """

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        before: Callable[[], None] | None = None,
    ) -> None:
        self._mark = secrets.token_hex(8)
        environment = {**os.environ, **variables, _MARK: self._mark, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # Pipes: a limit on the size of files would cut what is written into one.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=lambda: _prepare(before),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._output, self._errors = _Reader(self.process.stdout), _Reader(self.process.stderr)

    def written(self) -> str:
        """What it has written on stdout so far."""
        return self._output.text()

    def end(self) -> Ended:
        """Wait for its end, and for that of its own children.

        Raises:
            Unsound: it does not end, or leaves a process behind.
        """
        try:
            code = self.process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Unsound(f"it does not end: {self._errors.text()[-500:]}") from None
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while left := self._left_behind():
            if time.monotonic() > deadline:
                raise Unsound(f"it left processes running: {left}")
            time.sleep(0.05)
        for reader in (self._output, self._errors):
            reader.join()
        return Ended(code, self._output.text(), self._errors.text())

    def _left_behind(self) -> list[str]:
        """The command lines of processes that it started and that still run."""
        wanted, found = f"{_MARK}={self._mark}".encode(), []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    found.append((place / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:  # It ended, or belongs to somebody else.
                continue
        return [line for line in found if line]


def run(command: Sequence[str], variables: Mapping[str, str]) -> Ended:
    """Run a command to its end."""
    return Program(command, variables).end()


def mlc_llm(*arguments: str | Path) -> list[str]:
    """The command line of ``mlc_llm``."""
    return [sys.executable, "-m", "mlc_llm", *map(str, arguments)]


def _prepare(before: Callable[[], None] | None) -> None:
    """In the new process: a shell's background job ignores Ctrl-C, and this one must not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if before is not None:
        before()


class _Reader(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe, self._data = pipe, bytearray()
        self.start()

    def run(self) -> None:
        with self._pipe:
            while piece := os.read(self._pipe.fileno(), 1 << 16):
                self._data += piece

    def text(self) -> str:
        return bytes(self._data).decode("utf-8", "replace")
