"""What `make` says to somebody who has not given it what it needs. Nothing is installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository, unaware of a make that runs these tests."""
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MODEL", "PYTHON", "VENV")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.mark.parametrize("arguments", [(), ("MODEL=",)])
def test_chat_without_a_model_says_what_to_give(arguments: tuple[str, ...], tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    result = make("chat", f"VENV={venv}", *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "make chat MODEL=dist/my-model" in result.stderr
    assert "make chat MODEL=HF://org/name" in result.stderr
    assert not venv.exists()


def test_without_a_target_lists_the_targets() -> None:
    result = make()
    assert result.returncode == 0
    for target in ("chat", "test", "lint", "bench", "reference", "clean"):
        assert f"make {target}" in result.stdout


def test_missing_python_is_named(tmp_path: Path) -> None:
    result = make("install", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python")
    assert result.returncode == 2
    assert "There is no no-such-python" in result.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("version_info", "needs Python 3.11 or newer, and"),
        ("ensurepip", "apt install python3-venv"),
    ],
)
def test_unfit_python_is_explained(fails: str, message: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{fails}*) exit 1;; *) echo Python 3.10.1;; esac\n')
    python.chmod(0o755)
    result = make("install", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}")
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "venv").exists()
