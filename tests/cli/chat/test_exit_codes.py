"""The chat in pipes: what it answers, and the exit codes 0, 1, 2 and 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLI = Callable[..., Any]
SHORT = ("--max-gen-len", "12")
LONG = ("--max-gen-len", "60000")


def test_lines_are_turns(mlc_llm: CLI, options: Any) -> None:
    result = mlc_llm(*options, *SHORT, input="Hello\n\n/reset\nHello\n /reset\n")
    assert result.returncode == 0, result.stderr
    first, second, third = result.stdout.splitlines()
    assert first == second
    assert first.isalpha()
    assert third.isalpha()
    assert "Ctrl-D" not in result.stderr


def test_a_turn_that_fails(mlc_llm: CLI, options: Any) -> None:
    result = mlc_llm(*options, *SHORT, input=b"\xff\nHello\n")
    assert result.returncode == 1
    assert result.stdout.strip().isalpha()
    assert "Error [input-undecodable]: Line 1 " in result.stderr


def test_one_prompt_from_the_input(mlc_llm: CLI, options: Any) -> None:
    """All of its lines are one prompt, in which nothing is a command."""
    piped = mlc_llm(*options, *SHORT, "--prompt", "-", input="/help\nHello\n")
    given = mlc_llm(*options, *SHORT, "--prompt", "/help\nHello")
    assert (piped.returncode, given.returncode) == (0, 0), piped.stderr
    assert piped.stdout == given.stdout
    assert piped.stdout.strip().isalpha()


@pytest.mark.parametrize(
    ("data", "said"), [(b" \n", "[prompt-empty]"), (b"\xff", "[input-undecodable]")]
)
def test_no_prompt_from_the_input(mlc_llm: CLI, data: bytes, said: str) -> None:
    result = mlc_llm("chat", "nowhere", "--prompt", "-", input=data)
    assert (result.returncode, result.stdout) == (1, "")
    assert said in result.stderr


def test_a_wrong_command_line(mlc_llm: CLI) -> None:
    result = mlc_llm("chat", "nowhere", "--prompt")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--prompt" in result.stderr


def test_threads(mlc_llm: CLI, options: Any) -> None:
    answers = {
        threads: mlc_llm(*options, *SHORT, "--threads", threads, "--prompt", "Hello")
        for threads in ("1", "2", "0")
    }
    assert answers["1"].returncode == 0, answers["1"].stderr
    assert answers["1"].stdout == answers["2"].stdout
    assert answers["0"].returncode == 1
    assert "[config-invalid]: ChatConfig.num_threads " in answers["0"].stderr


def test_deterministic_asks_for_another_library(mlc_llm: CLI, options: Any) -> None:
    result = mlc_llm(*options, *SHORT, "--deterministic", "--prompt", "Hello")
    assert (result.returncode, result.stdout) == (1, "")
    assert "deterministic" in result.stderr


def test_without_a_model(mlc_llm: CLI, options: Any, tmp_path: Path) -> None:
    """The name demo is taken; a folder of that name in the working folder is preferred."""
    (tmp_path / "demo").symlink_to(options[1])
    result = mlc_llm("chat", *options[2:], *SHORT, "--prompt", "Hello", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().isalpha()
    first = result.stderr.splitlines()[0]
    assert first.startswith("No model is named, so this is demo")
    assert "mlc_llm chat smollm2" in first


def start(arguments: Any) -> subprocess.Popen[bytes]:
    """Start a chat that will write for long, and wait until it writes."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "mlc_llm", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"Hello\nHello\n")
    process.stdin.flush()
    assert process.stdout.read(1)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("prompt", [(), ("--prompt", "Hello")], ids=["lines", "prompt"])
def test_ctrl_c_ends_the_program(options: Any, prompt: tuple[str, ...]) -> None:
    process = start([*options, *LONG, *prompt])
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out.endswith(b"\n")  # A line that was broken off is ended.
    assert b"Traceback" not in err
    assert b"Error" not in err


def test_a_reader_that_leaves(options: Any) -> None:
    """As ``mlc_llm chat | head -1``: it ends at once, and quietly."""
    process = start([*options, *LONG])
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    remarks = process.stderr.read().splitlines()
    assert process.wait() == 1
    assert all(line.startswith(b"Using ") for line in remarks)
    process.stdin.close()
    process.stderr.close()
