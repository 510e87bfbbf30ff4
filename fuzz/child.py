"""A worker process as its parent sees it: results, and how the process ended."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from fuzz.outcome import Outcome, Result
from fuzz.worker import CASE_FOLDER, FOUND_FOLDER

HANG_SECONDS = 10.0
"""How long an input may take."""
START_SECONDS = 300.0
"""How long a worker may take to start and to feed its seeds: it may have to compile a model."""

ROOT = Path(__file__).resolve().parent.parent
_LAST_WORDS = 4000


class Worker:
    """A process that feeds some inputs of a subject; a context manager, which ends it.

    Args:
        subject: as :func:`fuzz.subject.load_subject` takes it.
        seed: the campaign's seed.
        numbers: the inputs.
        seconds: after how long it begins no other input.
        hang_seconds: how long one input may take.
    """

    def __init__(
        self,
        subject: str,
        seed: int,
        numbers: range,
        seconds: float,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self._hang_seconds = hang_seconds
        self._scratch = tempfile.TemporaryDirectory(prefix="mlc-llm-fuzz-", dir=_memory_folder())
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the rest
        command = [sys.executable, "-m", "fuzz.worker", subject, "--seed", str(seed)]
        command += ["--first", str(numbers.start), "--last", str(numbers.stop)]
        self._process = subprocess.Popen(
            [*command, "--seconds", str(seconds)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._scratch.name,
            env=environment(self._scratch.name),
            start_new_session=True,
        )

    def results(self) -> Iterator[Result]:
        """The results as they come; the last one may be a crash or a hang."""
        begun: int | None = None
        for line in self._lines():
            if line is None:
                yield self._hung(begun)
                return
            if line.startswith(b"{"):
                yield Result.of_line(line)
                self._waiting, begun = START_SECONDS, None
            else:
                begun = int(line)
                self._waiting = self._hang_seconds if begun >= 0 else START_SECONDS
        code = self._process.wait()
        if code != 0 or begun is not None:
            yield self._crashed(begun, code)

    def files_of(self, result: Result) -> Path:
        """The folder with a finding's files, as long as this worker is not left."""
        scratch = Path(self._scratch.name)
        found = scratch / FOUND_FOLDER / str(result.number)
        return found if found.is_dir() else scratch / CASE_FOLDER

    def _lines(self) -> Iterator[bytes | None]:
        """Lines of the report; None when the next one does not come in time."""
        assert self._process.stdout is not None
        descriptor, rest = self._process.stdout.fileno(), b""
        self._waiting = START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            deadline = time.monotonic() + self._waiting
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    yield None
                    return
                piece = os.read(descriptor, 1 << 16)
                if not piece:
                    return
                *lines, rest = (rest + piece).split(b"\n")
                yield from lines
                deadline = time.monotonic() + self._waiting

    def _hung(self, number: int | None) -> Result:
        self._process.send_signal(signal.SIGUSR1)  # faulthandler says where it is.
        try:
            self._process.wait(1)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.wait()
        words = self._last_words()
        return Result(_numbered(number), Outcome.HANG, _innermost(words), words)

    def _crashed(self, number: int | None, code: int) -> Result:
        how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        words = self._last_words()
        place = f"{how} {_innermost(words)}".strip()
        return Result(_numbered(number), Outcome.CRASH, place, f"{how}\n{words}")

    def _last_words(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _LAST_WORDS))
        return self._errors.read().decode("utf-8", "replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
        self._scratch.cleanup()


def _numbered(number: int | None) -> int:
    """A number for what went wrong between inputs, too."""
    return -1000 if number is None else number


def _innermost(words: str) -> str:
    """The innermost of our own lines in what faulthandler says."""
    for line in words.splitlines():
        if "/mlc_llm/" in line and line.lstrip().startswith("File "):
            return line.strip().rpartition("/mlc_llm/")[2].replace('", line ', ":")
    return ""


def _memory_folder() -> str | None:
    """Where files are written that live for a moment: in memory, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def environment(scratch: str) -> dict[str, str]:
    """Variables of a worker: its home is its scratch folder, and no network is asked."""
    cache = os.environ.get("MLC_LLM_CACHE", str(ROOT / "build" / "fuzz" / "cache"))
    search = [str(ROOT), *(entry for entry in sys.path if entry)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(search),
        "PYTHONFAULTHANDLER": "1",
        "HOME": scratch,
        "TMPDIR": scratch,
        "HF_HOME": f"{scratch}/huggingface",
        "HF_HUB_OFFLINE": "1",
        "MLC_LLM_CACHE": cache,
        "MLC_LLM_HISTORY": "",
        "RUST_BACKTRACE": "0",
    }
