"""A fresh virtual environment, and wheels for it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "plugins"

OWN = ("mlc_llm", "__editable__", "_editable_")
"""How this project's own entries in a site-packages folder begin, editable installs included."""


def run(command: list[str | Path], **options: Any) -> str:
    """Run a command and return its stdout; a failure shows all that it wrote."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, f"{command}:\n{result.stdout}\n{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder that its processes work in."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run a program of the environment, which knows nothing of this process's settings."""
        own = ("PYTHON", "MLC_LLM_")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        variables["MLC_LLM_CACHE"] = str(self.folder / "cache")
        return run([self.bin / program, *arguments], cwd=self.folder, env=variables)

    def pip(self, *arguments: str | Path) -> str:
        """Run the pip that runs outside, for this environment, on what is on this disk alone."""
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        return run([*pip, "--python", self.bin / "python", *arguments], cwd=self.folder)

    def install(self, *wheels: Path) -> None:
        """Install wheels, and nothing with them."""
        self.pip("install", "--no-deps", "--no-index", "--force-reinstall", *wheels)

    def plugins(self) -> list[dict[str, Any]]:
        """What ``mlc_llm plugins --json`` lists; there must be no problem with any of them."""
        shown = json.loads(self.run("mlc_llm", "plugins", "--json"))
        assert not shown["problems"]
        return shown["plugins"]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory, lacks: Any) -> Environment:
    """A fresh virtual environment in which nothing of this project is installed.

    Third-party packages are those of the environment that runs the tests: installing TVM again
    would take minutes and a network. They are links in a folder that a ``.pth`` file adds to
    ``sys.path``. This project, which is installed there too, is left out, so that the environment
    has of it only what is installed from wheels.
    """
    for module in ("pip", "venv", "hatchling"):
        if importlib.util.find_spec(module) is None:
            lacks(f"the module {module} is not installed")
    made = Environment(tmp_path_factory.mktemp("environment"))
    run([sys.executable, "-m", "venv", "--without-pip", made.folder / "venv"])
    third_party = made.folder / "third_party"
    third_party.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not entry.name.startswith(OWN) and entry.suffix != ".pth":
                (third_party / entry.name).symlink_to(entry)
    site = run([made.bin / "python", "-c", "import site; print(site.getsitepackages()[0])"])
    (Path(site.strip()) / "third_party.pth").write_text(f"{third_party}\n")
    return made


BuildWheels = Callable[..., list[Path]]


@pytest.fixture(scope="session")
def build_wheels(tmp_path_factory: pytest.TempPathFactory) -> BuildWheels:
    """Build the wheels of some projects, with the build tools that are installed."""

    def build(*projects: Path) -> list[Path]:
        folder = tmp_path_factory.mktemp("wheels")
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        alone = ["--no-deps", "--no-build-isolation", "--no-index"]
        run([*pip, "wheel", *alone, "--wheel-dir", folder, *projects], cwd=folder)
        wheels = sorted(folder.glob("*.whl"))
        assert len(wheels) == len(projects)
        return wheels

    return build


@pytest.fixture(scope="session")
def save_random_opt(transformers: Any, torch: Any) -> Callable[..., Path]:
    """The function of that name in the architecture's own test, which saves a checkpoint."""
    transformers.utils.logging.disable_progress_bar()
    return _module("architecture", "test_opt").save_random_opt


@pytest.fixture(scope="session")
def save_random_arcee(transformers: Any, torch: Any) -> Callable[..., Path]:
    """The function of that name in the variant's own test, which saves a checkpoint."""
    transformers.utils.logging.disable_progress_bar()
    return _module("variant", "test_arcee").save_random_arcee


def _module(example: str, name: str) -> Any:
    """A module of an example, which is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES / example)
        return importlib.import_module(name)
