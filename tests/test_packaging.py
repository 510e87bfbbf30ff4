"""What is built from this repository holds the model that is part of the package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "mlc_llm" / "demo"


def demo_files() -> dict[str, bytes]:
    """The demo's files by their paths in the repository."""
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in DEMO.iterdir()}


def build(target: str, folder: Path) -> Path:
    """Build the core, with the build backend that is installed; nothing is fetched."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(autouse=True)
def hatchling(lacks: Callable[[str], Any]) -> None:
    if importlib.util.find_spec("hatchling") is None:
        lacks("hatchling is not installed")


def test_a_wheel_has_the_demo_and_no_tests(tmp_path: Path) -> None:
    with zipfile.ZipFile(build("wheel", tmp_path)) as wheel:
        for name, content in demo_files().items():
            assert wheel.read(name) == content
        tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mlc_llm"}


def test_a_source_distribution_has_the_demo_and_how_it_was_made(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path)) as source:
        names = {name.split("/", 1)[-1] for name in source.getnames()}
    assert set(demo_files()) <= names
    assert "examples/demo_model/__init__.py" in names


def test_the_demo_is_small() -> None:
    """It is part of every clone and every wheel."""
    assert sum(map(len, demo_files().values())) < 4 * 1024 * 1024
