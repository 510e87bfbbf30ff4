"""Running a module of ours in a child process: for what may crash, hang or be interrupted.

``subprocess`` and ``python -m``, never ``multiprocessing``, whose children import the user's
script again. The child sees the parent's ``sys.path``, has its own process group (so that Ctrl-C
reaches the parent alone, which then kills the group), and ends when its parent dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mlc_llm.errors import PluginError

_PIPE_VARIABLE = "MLC_LLM_PARENT_PIPE"
_TAIL_BYTES = 1 << 20
"""Bytes that are read of the end of each stream: an answer in JSON arrives whole."""

_LONGEST_WORDS = 2000

_PYTHONS_OWN = {
    **dict.fromkeys(("PYTHONINSPECT", "PYTHONDEVMODE", "PYTHONWARNINGS", "PYTHONDEBUG")),
    **dict.fromkeys(("PYTHONVERBOSE", "PYTHONPROFILEIMPORTTIME", "PYTHONDUMPREFS")),
    **dict.fromkeys(("PYTHONTRACEMALLOC", "PYTHONMALLOCSTATS", "PYTHONOPTIMIZE")),
    "PYTHONIOENCODING": "utf-8:backslashreplace",
}
"""Variables that would have a child wait for more, fail at a warning, or say what we take for its
answer or its last words: None removes one."""


@dataclass(frozen=True)
class Outcome:
    """How a child process ended.

    Args:
        returncode: its exit status; negative for a signal, None when it was killed for the time.
        stdout: the end of what it wrote on stdout.
        stderr: the end of what it wrote on stderr.
    """

    returncode: int | None
    stdout: str
    stderr: str

    def ending(self) -> str:
        """How it ended, as the end of a sentence: ``"crashed with SIGSEGV"``."""
        code = self.returncode
        if code is None:
            return "did not answer in time"
        if code < 0:
            try:
                return f"crashed with {signal.Signals(-code).name}"
            except ValueError:
                return f"was killed by signal {-code}"
        return f"ended with exit status {code if code < 2**31 else hex(code)}"

    def last_words(self) -> str:
        """The last line on stderr that is not blank, or nothing."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return lines[-1][:_LONGEST_WORDS] if lines else ""


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module with this interpreter.

    Raises:
        PluginError: this program has no Python interpreter to start.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise PluginError(
            "a child process is needed, and this program cannot start one: sys.executable is "
            f"{sys.executable!r} and is not a Python interpreter",
            code="interpreter-missing",
        )
    # -P: files in the current folder must not stand in for modules.
    return [sys.executable, "-P", "-m", module, *arguments]


def python_environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with its module search path, for a Python that only works.

    Args:
        changes: variables to set, or to remove where the value is None.
    """
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(_search_path())
    for name, value in {**_PYTHONS_OWN, **changes}.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def _search_path() -> Iterator[str]:
    """What of ``sys.path`` a variable can hold; Python passes over all that is not text, too."""
    entries: list[object] = [*sys.path]
    for place in entries:
        if not isinstance(place, str) or os.pathsep in place or "\0" in place:
            continue
        try:
            yield place or str(Path.cwd())
        except FileNotFoundError:
            # The current folder was deleted.
            continue


def run_child(
    command: Sequence[str], environment: Mapping[str, str], timeout: float | None = None
) -> Outcome:
    """Run a command to its end; it and its own children are killed when the wait is cut short.

    Args:
        command: the program and its arguments.
        environment: all its environment variables.
        timeout: seconds until it is killed; None waits for ever.

    Raises:
        OSError: the command cannot be started.
    """
    # Files instead of pipes: a grandchild that keeps a pipe open would block the reader.
    with _capture() as stdout, _capture() as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env={**environment, _PIPE_VARIABLE: "1"},
            start_new_session=True,
        )
        returncode: int | None = None
        try:
            returncode = process.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill_group(process)
        return Outcome(returncode, _tail(stdout), _tail(stderr))


def exit_with_parent() -> None:
    """In a child of :func:`run_child`, end this process when the parent dies; else do nothing."""
    if os.environ.pop(_PIPE_VARIABLE, None) is None:
        return

    def watch() -> None:
        # The parent never writes: the read returns when its end of the pipe is closed. os.read,
        # because a daemon thread inside sys.stdin breaks the interpreter's exit.
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextlib.contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let a module look as if it were not installed, unless it is imported already.

    ``import tvm`` takes two seconds more where torch is installed, which it then imports, and of
    which our own programs have no use.

    Args:
        module: its name.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the child and its own children, and reap it."""
    if sys.platform == "win32":
        process.kill()
    else:
        # These errors: nothing is left of the group. (macOS says EPERM for a group of zombies.)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _capture() -> BinaryIO:
    """A file for what a child says; in memory where that can be, for disks are full or read-only.

    Raises:
        OSError: there is no place for one.
    """
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("mlc_llm"), "w+b")
    return tempfile.TemporaryFile()


def _tail(file: BinaryIO) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    return file.read().decode("utf-8", "replace")
