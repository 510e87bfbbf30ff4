"""A command in a process of its own: what it says, how it ends, and what it leaves running."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fuzz.child import ROOT

HANG_SECONDS = 120.0
"""How long a command may take; on an idle machine none here takes 20."""
_MARK = "MLC_LLM_INJECTION"
_ORPHAN_SECONDS = 20.0
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")
_BEGIN = """
import os, resource, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
if (limit := int(sys.argv[1])) >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""What the process does before it becomes the command. A shell's background job ignores Ctrl-C."""


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
        """Raise Unsound if it crashed, or failed with an error that is not ours."""
        name = signal.Signals(-self.code).name if self.code < 0 else ""
        if name in _CRASHES:
            raise Unsound(f"it crashed with {name}: {self.words}")
        if self.code == 1 and "Error [" not in self.errors:
            raise Unsound(f"it failed with an error that is not ours: {self.words}")
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
        largest_file: bytes that no file may have more of; -1 for no such limit.
    """

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        largest_file: int = -1,
    ) -> None:
        self._mark = secrets.token_hex(8)
        environment = {**os.environ, **variables, _MARK: self._mark, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BEGIN, str(largest_file), *command],
            stdin=subprocess.DEVNULL,
            # Pipes: a limit on the size of files would cut what is written into one.
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
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
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise Unsound(f"it left processes running: {list(left.values())}")
            time.sleep(0.05)
        for reader in (self._output, self._errors):
            reader.join()
        return Ended(code, self._output.text(), self._errors.text())

    def _left_behind(self) -> dict[int, str]:
        """The processes that it started and that still run, with their command lines."""
        wanted, found = f"{_MARK}={self._mark}".encode(), {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    words = (place / "cmdline").read_bytes().split(b"\0")
                    found[int(place.name)] = b" ".join(words).decode("utf-8", "replace")
            except OSError:  # It ended, or belongs to others.
                continue
        return found


def run(command: Sequence[str], variables: Mapping[str, str]) -> Ended:
    """Run a command to its end."""
    return Program(command, variables).end()


def mlc_llm(*arguments: str | Path) -> list[str]:
    """The command line of ``mlc_llm``."""
    return [sys.executable, "-m", "mlc_llm", *map(str, arguments)]


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
