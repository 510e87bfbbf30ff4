"""Running the command line as users do: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Result = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def mlc_llm() -> Callable[..., Result]:
    """Run ``mlc_llm`` with arguments; ``input`` is what stdin gives, ``variables`` are set."""

    def run(
        *arguments: str | Path,
        input: str | bytes = "",
        variables: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Result:
        data = input.encode() if isinstance(input, str) else input
        result = subprocess.run(
            [sys.executable, "-W", "error", "-m", "mlc_llm", *map(str, arguments)],
            input=data,
            capture_output=True,
            env={**os.environ, **(variables or {})},
            cwd=cwd,
        )
        texts: list[Any] = [stream.decode() for stream in (result.stdout, result.stderr)]
        return subprocess.CompletedProcess(result.args, result.returncode, *texts)

    return run


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests stay out of them."""
    for name in ("DEBUG", "DEVICE", "PLUGINS", "ALLOW_PREBUILT", "PROBE_TIMEOUT"):
        monkeypatch.delenv(f"MLC_LLM_{name}", raising=False)
    monkeypatch.delenv("TVM_USE_RUNTIME_LIB", raising=False)
