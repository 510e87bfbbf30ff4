"""g++, and where NVIDIA's headers and what it has built are kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = [
    "-std=c++17",
    "-fPIC",
    "-march=native",
    "-fno-strict-aliasing",  # kernels read floats as integers and the other way
    "-U_FORTIFY_SOURCE",  # whose longjmp refuses to change stacks
]


def compiler() -> str:
    """The compiler; raises FileNotFoundError."""
    found = shutil.which("g++")
    if found is None:
        raise FileNotFoundError("the GPU emulator is built with g++, which is not installed")
    return found


def cuda_headers() -> list[str]:
    """The options for NVIDIA's headers, which its wheels bring."""
    root = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "include"
    if not (root / "cuda.h").is_file():
        raise FileNotFoundError(
            f"{root}/cuda.h is not there: the GPU emulator needs the headers of the wheels "
            "nvidia-cuda-runtime, nvidia-cuda-crt and nvidia-cuda-cccl"
        )
    return [f"-isystem{root}", f"-isystem{root / 'cccl'}"]


def run_compiler(*arguments: str | Path) -> None:
    """Run g++ without the emulated GPU, which may be loaded here; raises CalledProcessError."""
    variables = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run([compiler(), *FLAGS, *map(str, arguments)], check=True, env=variables)


def cache_folder() -> Path:
    """Where libraries and machine code are kept, by what they were made of."""
    named = os.environ.get("GPU_EMULATOR_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mlc-llm-gpu-emulator"


def digest(files: Iterable[Path], *texts: str) -> str:
    """What names a result: everything that it depends on."""
    hashed = hashlib.sha256()
    for file in sorted(files):
        hashed.update(file.name.encode() + b"\0" + file.read_bytes())
    for text in (sys.prefix, *texts):
        hashed.update(b"\0" + text.encode())
    return hashed.hexdigest()[:24]


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by ``make`` in another one that then takes its name.

    Two processes may make it at once: one of the results is kept.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as own:
        fresh = Path(own) / "made"
        fresh.mkdir()
        make(fresh)
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    return folder
