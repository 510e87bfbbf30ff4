"""The C++ tests of the runtime's logic, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "native"


@pytest.fixture(scope="module")
def compiler(lacks: Callable[[str], NoReturn], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A C++ compiler whose programs run with sanitizers."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or ""
    if not compiler or not shutil.which("make"):
        lacks("a C++ compiler (c++) and make build the tests, and one is missing")
    folder = tmp_path_factory.mktemp("sanitizers")
    source, program = folder / "empty.cc", folder / "empty"
    source.write_text("int main() { return 0; }\n")
    flags = ["-fsanitize=address,undefined"]
    built = subprocess.run([compiler, *flags, source, "-o", program], capture_output=True)
    if built.returncode or subprocess.run([program], capture_output=True).returncode:
        lacks(f"{compiler} has no address and undefined-behaviour sanitizers here")
    return compiler


def test_logic_under_sanitizers(compiler: str, tmp_path: Path) -> None:
    # In a copy, because make's names of files must not have blanks, and that folder's may.
    plugin = tmp_path / "vulkan"
    shutil.copytree(FOLDER.parents[1] / "src", plugin / "src")
    shutil.copytree(FOLDER, plugin / "tests" / "native", ignore=shutil.ignore_patterns("build"))
    command = ["make", "-j2", "-C", str(plugin / "tests" / "native"), f"CXX={compiler}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failures" in done.stdout
