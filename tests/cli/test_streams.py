"""Commands whose standard streams are closed, full, or not to be written to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="redirections of a POSIX shell")


def shell(arguments: str, redirection: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f'"{sys.executable}" -m mlc_llm {arguments} {redirection}'
    return subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder)


@pytest.mark.matrix
@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("arguments", ["templates", "models --json", "plugins", "--help"])
def test_closed_ones_are_done_without(arguments: str, redirection: str, tmp_path: Path) -> None:
    result = shell(arguments, redirection, tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert bool(result.stdout) == (">&-" not in redirection.split())


def test_their_numbers_are_not_given_to_files(tmp_path: Path) -> None:
    """What a child process writes on its stdout must not end up in a file of ours."""
    code = (
        "import os, subprocess, sys\n"
        "from mlc_llm.cli.streams import prepare_streams\n"
        "prepare_streams()\n"
        "with open('file', 'w') as file:\n"
        "    number = file.fileno()\n"
        "    subprocess.run(['echo', 'noise'])\n"
        "    os.write(1, b'noise')\n"
        "assert number > 2\n"
    )
    (tmp_path / "program.py").write_text(code)
    command = f'"{sys.executable}" program.py <&- >&-'
    result = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (tmp_path / "file").read_text() == ""


def test_one_prompt_of_a_closed_input(tmp_path: Path) -> None:
    result = shell("chat demo --prompt -", "<&-", tmp_path)
    assert result.returncode == 1
    assert "that is empty" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
@pytest.mark.parametrize("arguments", ["templates", "--help", "models --json"])
def test_a_full_one_is_an_error_once(arguments: str, tmp_path: Path) -> None:
    result = shell(arguments, ">/dev/full", tmp_path)
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")


def test_one_that_cannot_be_written(tmp_path: Path) -> None:
    result = shell("templates", "1</dev/null", tmp_path)
    assert (result.returncode, result.stderr) == (1, "Error: Bad file descriptor\n")
