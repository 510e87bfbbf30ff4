"""What tests on the emulated GPU need: g++, and NVIDIA's headers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .gpu import EMULATOR, GPU


@pytest.fixture(scope="session")
def preload(isolated_caches: Path) -> Iterator[str]:
    """What LD_PRELOAD must be. The libraries, and machine code, are built once in a run."""
    stop = pytest.fail if os.environ.get("CI") else pytest.skip
    if sys.platform != "linux" or shutil.which("g++") is None:
        stop("the GPU emulator needs Linux and g++")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPU_EMULATOR_CACHE", str(isolated_caches / "gpu-emulator"))
        built = subprocess.run(
            [sys.executable, str(EMULATOR)], capture_output=True, text=True, check=False
        )
        if built.returncode:
            stop(built.stderr)
        yield built.stdout.strip()


@pytest.fixture(scope="module")
def gpu(preload: str) -> Iterator[GPU]:
    """An emulated GPU that a file's tests share."""
    with GPU(preload) as gpu:
        yield gpu


@pytest.fixture
def own_gpu(preload: str) -> Iterator[Callable[..., GPU]]:
    """Makes emulated GPUs with settings of their own: ``own_gpu(MEMORY="1000")``."""
    made: list[GPU] = []

    def make(**settings: str) -> GPU:
        made.append(GPU(preload, **{f"GPU_EMULATOR_{k}": v for k, v in settings.items()}))
        return made[-1]

    yield make
    for gpu in made:
        gpu.close()
