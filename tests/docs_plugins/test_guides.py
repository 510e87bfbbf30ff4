"""docs/plugins/*.md make working plugins: their files are those of the examples, and conform."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

GUIDES = ROOT / "docs" / "plugins"
EXAMPLES = ROOT / "examples" / "plugins"

EXAMPLE_OF = {
    "template": "template",
    "device": "device",
    "library": "prebuilt-library",
    "architecture": "architecture",
    "observer": "observer",
    "variant": "variant",
    "catalog": "catalog",
}
"""The example's folder of each guide."""

FILE = re.compile(
    r"^\*\*`([^`]+)`\*\*\n\n(?:<!-- [^\n]* -->\n)?```(?:toml|python)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NOT_BY_NAME = {"architecture", "variant", "observer", "catalog"}
"""Guides whose plugins have tests of their own, or none: the suite has no checkpoint for them."""
QUICK = {"device": ["-k", "name or probe or target or open or options"]}
"""Compiling each quantisation for a second CPU device takes minutes and shows nothing of a guide:
tests/examples chats with that device."""


def files_of(guide: str) -> dict[str, str]:
    """The files that a guide has its reader write, by their paths."""
    return dict(FILE.findall((GUIDES / f"{guide}.md").read_text(encoding="utf-8")))


@pytest.mark.parametrize("guide", EXAMPLE_OF)
def test_the_files_are_those_of_the_example(guide: str) -> None:
    example = EXAMPLES / EXAMPLE_OF[guide]
    sources = {
        path.relative_to(example).as_posix(): path.read_text(encoding="utf-8")
        for path in example.rglob("*")
        if path.suffix in (".py", ".toml")
    }
    assert files_of(guide) == sources


def install(guide: str, folder: Path) -> None:
    """Write a guide's files, and the metadata by which an installed distribution is found."""
    written = files_of(guide)
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    project = tomllib.loads(written["pyproject.toml"])["project"]
    name = project["name"].replace("-", "_")
    metadata = folder / f"{name}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups))


def run_pytest(folder: Path, *arguments: str) -> str:
    """Run pytest where the plugin in ``folder`` is installed; returns its last line."""
    variables: dict[str, Any] = {k: v for k, v in os.environ.items() if k != "MLC_LLM_PLUGINS"}
    variables |= {"PYTHONPATH": str(folder), "MLC_LLM_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("guide", sorted(set(EXAMPLE_OF) - NOT_BY_NAME))
def test_what_a_guide_makes_conforms(guide: str, tmp_path: Path) -> None:
    """The guide's own test command succeeds where its files are installed."""
    install(guide, tmp_path)
    text = (GUIDES / f"{guide}.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^pytest (-p .*)$", text, re.MULTILINE)
    last = run_pytest(tmp_path, *shlex.split(command), *QUICK.get(guide, ()))
    passed = re.search(r"(\d+) passed", last)
    assert passed is not None, last
    assert int(passed[1]) >= 5, last


@pytest.mark.slow
@pytest.mark.parametrize(
    ("guide", "test", "passed"),
    [("architecture", "test_opt.py", 10), ("variant", "test_arcee.py", 2)],
)
def test_an_architectures_own_test(
    guide: str, test: str, passed: int, tmp_path: Path, transformers: Any, torch: Any
) -> None:
    """The test that the guide has its reader write compares with transformers, and passes."""
    install(guide, tmp_path)
    last = run_pytest(tmp_path, test, "-k", "agrees or name or refused")
    assert re.match(rf"{passed} passed", last), last
