"""`make chat`, and what `make` says to somebody who lacks what it needs. Nothing is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlc_llm import ChatModule, GenerationConfig
from mlc_llm.weights.locate import DEMO

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in the repository, unaware of a make that runs these tests.

    That one hands on its flags, and each variable that was set when it was called.
    """
    settings = re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE)
    inherited = re.compile("|".join(["MAKE.*", "GNUMAKEFLAGS", "MFLAGS", "MODEL", *settings]))
    environment = {
        name: value for name, value in os.environ.items() if not inherited.fullmatch(name)
    }
    return subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.fixture
def venv() -> Iterator[str]:
    """A name for VENV that is free. It is relative, because make's targets must have no blanks."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="test-", dir=build) as folder:
        yield f"build/{Path(folder).name}/venv"


@pytest.fixture
def installed(venv: str) -> str:
    """An environment in which make finds everything installed: the one that runs the tests."""
    stamps = ROOT / venv / ".stamps"
    stamps.mkdir(parents=True)
    for stamp in ("venv", "core"):
        (stamps / stamp).touch()
    (ROOT / venv / "bin").symlink_to(Path(sys.executable).parent)
    return venv


@pytest.mark.matrix(model=[()])
@pytest.mark.parametrize("model", [(), ("MODEL=",), (f"MODEL={DEMO}",)], ids=" ".join)
def test_chat(model: tuple[str, ...], installed: str) -> None:
    """Without a model, it is with the one that is part of the package."""
    question = "What is one plus one?"
    with ChatModule(DEMO) as cm:
        answer = cm.generate(question, GenerationConfig(temperature=0))
    arguments = f"ARGS=--prompt '{question}' --temperature 0"
    result = make("chat", f"VENV={installed}", arguments, *model)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{answer}\n"


def test_chat_with_a_model_that_is_not_there(installed: str, tmp_path: Path) -> None:
    """A path may have blanks and what a shell would expand."""
    result = make("chat", f"VENV={installed}", f"MODEL={tmp_path}/no such $$HOME 'model'")
    assert result.returncode != 0
    assert result.stdout == ""
    assert f"{tmp_path}/no such $HOME 'model'" in result.stderr


def test_without_a_target_lists_the_targets() -> None:
    result = make()
    assert result.returncode == 0
    for target in ("chat", "test", "test-all", "lint", "bench", "reference", "clean"):
        assert f"make {target}" in result.stdout


def test_an_environment_must_have_no_blanks() -> None:
    """Make takes each word for a target of its own, and would write to all of them."""
    result = make("install", "VENV=my venv")
    assert result.returncode == 2
    assert 'VENV must be one name without blanks, and is "my venv"' in result.stderr


def test_missing_python_is_named(venv: str) -> None:
    result = make("install", f"VENV={venv}", "PYTHON=no-such-python")
    assert result.returncode == 2
    assert "There is no no-such-python" in result.stderr
    assert not (ROOT / venv).exists()


def test_a_vulkan_plugin_that_cannot_be_built_stops_nothing(installed: str) -> None:
    """It is said, and tried again the next time."""
    folder = ROOT / installed
    (folder / "bin").unlink()
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text('#!/bin/sh\necho "no compiler: $*" >&2\nexit 1\n')
    python.chmod(0o755)
    result = make(f"VENV={installed}", f"{installed}/.stamps/vulkan")
    assert result.returncode == 0, result.stderr
    assert "no compiler: -m pip install" in result.stderr
    assert "mlc-llm-vulkan could not be built, as said above" in result.stderr
    assert not (folder / ".stamps" / "vulkan").exists()


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("version_info", "needs Python 3.11 or newer, and"),
        ("ensurepip", "apt install python3-venv"),
    ],
)
def test_unfit_python_is_explained(fails: str, message: str, venv: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in *{fails}*) exit 1;; *) echo Python 3.10.1;; esac\n')
    python.chmod(0o755)
    result = make("install", f"VENV={venv}", f"PYTHON='{python}'")
    assert result.returncode == 2
    assert message in result.stderr
    assert not (ROOT / venv).exists()
