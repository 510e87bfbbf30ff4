"""The comparison's end of the protocol: one side, held in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent


class Child:
    """A side in a child process; ends with the ``with`` block.

    Args:
        command: the interpreter and its arguments.
        threads: threads that the side may use.
        tree: the checkout whose code it runs.
    """

    def __init__(self, command: list[str], threads: int, tree: Path = ROOT) -> None:
        # OpenMP's and TVM's pools are sized by their variables where no argument reaches them.
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TVM_NUM_THREADS": str(threads),
            "PYTHONPATH": str(tree),
        }
        self.command = command
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tree,
            env=environment,
        )
        self.about: dict[str, Any] = self._receive()["ready"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> int:
        """Let the child end, as it does when its stdin closes; returns its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        return self.process.returncode

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"A side ended with code {self._end()}: {' '.join(self.command)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """What this side answers to a request."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._receive()

    def seconds(self, request: dict[str, Any]) -> float:
        """What ``request`` took on this side."""
        return float(self.ask(request)["seconds"])
