"""The scripts in examples/, run as their reader would run them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mlc_llm
from mlc_llm.testing.model_folder import make_model_folder

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DEMO = Path(mlc_llm.__file__).parent / "demo"

SHOWN = {
    "chat.py": (
        r"> What is the meaning of life\?\n.+\n\n> How many points did you list out\?\n.+\n\n"
        r"Statistics: prefill: \d+\.\d tok/s, decode: \d+\.\d tok/s\n"
    ),
    "configure.py": r"(> What is one plus one\?\n.+\n){2}",
    "raw_text.py": (
        r"Life is a quality that distinguishes.+\n\n"
        r"\[INST\] <<SYS>>\n.+\n<</SYS>>\n\nWhat is mother nature\? \[/INST\].+\n\n"
    ),
    "stream_from_thread.py": r".+\n\(read in [1-9]\d* parts\)\n",
    "many_requests.py": (
        r"> What is one plus one\?\n.+\n> Name three colours\.\n.+\n> Count to five\.\n.+\n"
        r"> What is the meaning of life\?\n.+\n\(4 requests, [1-9]\d* tokens\)\n"
    ),
    "second_fine_tune.py": (
        r"(?P<first>.+?)\n  with (?P<library>.+?)\n> What is one plus one\?\n.+\n"
        r"(?P<second>.+?)\n  with (?P=library)\n> What is one plus one\?\n.+\n"
        r"They share one library\.\n"
    ),
}
"""What each script writes; a part that matches ``.+`` is the model's."""


def start(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLES / script, *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)


def check(script: str, *arguments: str | Path) -> re.Match[str]:
    """Run a script that must succeed; returns the match of what it has written."""
    result = start(script, *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    match = re.fullmatch(SHOWN[script], result.stdout, re.DOTALL)
    assert match, result.stdout
    return match


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights, which has nothing in common with the demo."""
    return make_model_folder(tmp_path_factory.mktemp("model"), "q0f32", conv_template="llama-2")


@pytest.fixture(scope="module")
def library(folder: Path, make_library: Any) -> Path:
    return make_library(folder)


def test_each_is_described_and_short() -> None:
    scripts = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")}
    described = re.findall(
        r"^\| \[(\w+\.py)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.M
    )
    assert sorted(described) == sorted(scripts) == sorted(SHOWN)
    assert all(len(text.splitlines()) < 50 for text in scripts.values())


@pytest.mark.parametrize("script", SHOWN)
def test_as_it_stands(script: str) -> None:
    match = check(script)
    if script == "second_fine_tune.py":
        assert match["first"] == str(DEMO)
        assert match["second"] != str(DEMO)


@pytest.mark.parametrize("script", SHOWN)
def test_with_another_model(script: str, folder: Path, library: Path) -> None:
    match = check(script, folder, "--device", "cpu", "--model-lib", library)
    if script == "second_fine_tune.py":
        assert match["first"] == str(folder)
        assert match["library"] == str(library)


@pytest.mark.parametrize("script", SHOWN)
@pytest.mark.parametrize(
    "arguments", [["dist/none"], ["--device", "none"], ["--model-lib", "none.so"]], ids=" ".join
)
def test_what_is_wrong_is_named(script: str, arguments: list[str], folder: Path) -> None:
    """Which also shows that each argument gets to where it belongs."""
    model = [] if "dist/none" in arguments else [folder]
    result = start(script, *model, *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert arguments[-1] in result.stderr.splitlines()[-1]


def test_two_models_by_name(folder: Path, library: Path, tmp_path: Path) -> None:
    """Two sets of weights of one shape, each in a folder of its own."""
    tuned = make_model_folder(tmp_path / "tuned", "q0f32", conv_template="llama-2", seed=1)
    match = check("second_fine_tune.py", folder, tuned, "--model-lib", library)
    assert (match["first"], match["second"]) == (str(folder), str(tuned))
    assert match["library"] == str(library)


def test_models_of_different_shapes(folder: Path) -> None:
    """A library is then found for each, and it is said that they are two."""
    result = start("second_fine_tune.py", "demo", folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("\nThey need a library each.\n")
