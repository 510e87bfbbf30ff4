"""The side of llama.cpp where many answers are written: its own ``llama-batched-bench``.

Each measurement is a run of the program, which warms up, reads one prompt, copies it to all
streams, and then decodes a token of each in every step, without choosing any.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CELLS = 256
"""The cache of a stream has a multiple of that number of cells."""


class BatchedBench:
    """``llama-batched-bench`` with a GGUF file.

    Args:
        program: the program.
        file: the GGUF file.
        threads: threads for prefill and decode.
        flash_attention: whether llama.cpp uses it.
    """

    def __init__(self, program: Path, file: Path, threads: int, flash_attention: bool) -> None:
        self._command = [str(program), "--model", str(file), "--output-format", "jsonl"]
        self._command += ["--threads", str(threads), "--threads-batch", str(threads)]
        self._command += ["--flash-attn", "on" if flash_attention else "off"]
        self._command += ["--ubatch-size", "512", "-pps"]
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.about: dict[str, Any] = {
            "name": "llama.cpp",
            "version": self._version(program),
            "command": self._command,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is left running."""

    def seconds(self, request: dict[str, Any]) -> float:
        """Seconds in which each stream gets that number of tokens."""
        streams, tokens, steps = request["streams"], request["tokens"], request["steps"]
        cells = -(-(tokens + steps + 1) // CELLS) * CELLS
        sizes = {"-npp": tokens, "-ntg": steps, "-npl": streams, "--ctx-size": streams * cells}
        words = [word for name, size in sizes.items() for word in (name, str(size))]
        return decode_seconds(self._run([*self._command, *words]), streams)

    def _run(self, command: list[str]) -> str:
        result = subprocess.run(
            command, check=True, capture_output=True, text=True, env=self._environment
        )
        return result.stdout + result.stderr

    def _version(self, program: Path) -> str:
        lines = self._run([str(program), "--version"]).splitlines()
        return next((line for line in lines if line.startswith("version")), "unknown version")


def decode_seconds(output: str, streams: int) -> float:
    """What the program says that decoding took.

    Args:
        output: all that it wrote.
        streams: how many were asked for.

    Raises:
        RuntimeError: it says nothing of that number of streams, as where they do not fit.
    """
    for line in output.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            if found["pl"] == streams:
                return float(found["t_tg"])
    raise RuntimeError(f"llama-batched-bench measured no {streams} streams:\n{output}")
