"""The Python packages of a bundle: installed ones, or wheels for another version of Python.

What only compilers, headers' readers and tests need is left out: of TVM's 253 MB of libraries, the
5 MB of its runtime stay.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SHARED = (
    "annotated-types",
    "apache-tvm",
    "click",
    "filelock",
    "nvidia-cuda-runtime",
    "platformdirs",
    "pluggy",
    "pydantic",
    "typing-extensions",
    "typing-inspection",
)
"""Packages that are the same for every version of Python."""

OF_A_VERSION = ("apache-tvm-ffi", "ml-dtypes", "numpy", "pydantic-core")
"""Packages with code for one version of Python."""

OWN = ("mlc_llm", "plugins/cuda/mlc_llm_cuda", "benchmarks")
"""Folders of this repository."""

LEFT_OUT = (
    "*.a",
    "*.h",
    "*.hpp",
    "*.pxd",
    "*.pyi",
    "*.pyx",
    "RECORD",
    "__pycache__",
    "3rdparty",
    "cmake",
    "f2py",
    "include",
    "libcudadevrt*",
    "libtvm_compiler.so",
    "licenses",
    "src",
    "tests",
    "topi",
    "web",
)
"""Names of files and folders that a bundle does not need."""

PLATFORMS = (28, 27, 24, 17)
"""Minor versions of glibc 2 that wheels may ask for, the newest first."""


def add_packages(names: Iterable[str], folder: Path, version: str) -> None:
    """Put packages into a folder.

    Args:
        names: distributions; those that are installed here say which version is taken.
        folder: where they are put.
        version: of Python, such as ``3.12``. For that of this process, what is installed is copied.

    Raises:
        subprocess.CalledProcessError: pip cannot fetch them.
    """
    if version == own_version():
        for name in names:
            _copy_installed(name, folder)
    else:
        _fetch(names, folder, version)
        _remove_left_out(folder)


def add_own(folder: Path) -> None:
    """Put this repository's packages into a folder."""
    for name in OWN:
        source = ROOT / name
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))


def link_duplicates(folders: Iterable[Path]) -> None:
    """Make equal large files one file; an archive then has it once.

    Args:
        folders: where they are.
    """
    known: dict[tuple[str, str], Path] = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("*.so*"))):
        same = known.setdefault((path.name, _digest(path)), path)
        if same != path:
            path.unlink()
            path.hardlink_to(same)


def own_version() -> str:
    """The version of Python that runs this, such as ``3.12``."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy_installed(name: str, folder: Path) -> None:
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if ".." in file.parts or any(Path(part).match(p) for part in file.parts for p in LEFT_OUT):
            continue
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def _fetch(names: Iterable[str], folder: Path, version: str) -> None:
    """Install wheels for another Python; NumPy's is the newest that has one."""
    wanted = [
        name if name == "numpy" else f"{name}=={importlib.metadata.version(name)}" for name in names
    ]
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in PLATFORMS]
    options = ["--no-deps", "--only-binary=:all:", f"--python-version={version}", *platforms]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-compile", "--upgrade"]
    command = [sys.executable, "-m", "pip", "install", *quiet, *options]
    platforms2014 = "--platform=manylinux2014_x86_64"
    subprocess.run([*command, platforms2014, f"--target={folder}", *wanted], check=True)


def _remove_left_out(folder: Path) -> None:
    for pattern in LEFT_OUT:
        for path in sorted(folder.rglob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
