"""The marker ``matrix``: few of many combinations of parameters are fast, and none is lost."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parent.parent / "conftest.py"

TESTS = """
import pytest

@pytest.fixture(params=["x", "y"])
def fixture(request): pass

@pytest.mark.matrix
@pytest.mark.parametrize("a", range(3))
@pytest.mark.parametrize("b", range(5))
def test_all(fixture, a, b): pass

@pytest.mark.matrix(a=[1, 2])
@pytest.mark.parametrize("a", range(3))
@pytest.mark.parametrize("b", range(3))
def test_some(a, b): pass

@pytest.mark.parametrize("a", range(3))
def test_no_matrix(a): pass

@pytest.mark.matrix
def test_no_parameters(): pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_matrix.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    matrix\n")
    return tmp_path


def collected(folder: Path, markers: str) -> list[tuple[str, ...]]:
    """The names of tests, and their values of parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", markers, "."]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"::(\w+)(?:\[(.*)\])?$", done.stdout, re.MULTILINE)
    return [(name, *values.split("-")) for name, values in found]


def test_each_value_is_fast_once(folder: Path) -> None:
    fast = collected(folder, "not slow")
    of_all = [values for name, *values in fast if name == "test_all"]
    assert [{*values} for values in zip(*of_all, strict=True)] == [
        {"x", "y"},
        {*"01234"},
        {*"012"},
    ]
    assert len(of_all) == 5
    of_some = [values for name, *values in fast if name == "test_some"]
    assert [{*values} for values in zip(*of_some, strict=True)] == [{*"012"}, {*"12"}]
    assert len(of_some) == 3
    assert [one for one in fast if "no" in one[0]] == [
        *(("test_no_matrix", value) for value in "012"),
        ("test_no_parameters", ""),
    ]


def test_the_others_are_slow(folder: Path) -> None:
    fast, slow = collected(folder, "not slow"), collected(folder, "slow")
    assert not {*fast} & {*slow}
    assert len(fast) + len(slow) == 30 + 9 + 3 + 1
