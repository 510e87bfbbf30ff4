"""A hash of code, for what is cached and must be made again when that code changes."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

SUFFIXES = (".py", ".cuh")
"""Of Python, and of kernels in CUDA C."""


@functools.cache
def source_digest(packages: tuple[str, ...]) -> str:
    """A hash of the source files of some packages.

    Args:
        packages: names of packages, or of modules that stand for the package they are in.
    """
    digest = hashlib.sha256()
    for name in packages:
        for file in _sources(name):
            digest.update(file.name.encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _sources(name: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        # A module that was never imported from a file, such as __main__.
        spec = None
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        if "." in name:
            return _sources(name.rpartition(".")[0])
        return [Path(spec.origin)] if spec.has_location and spec.origin else []
    places = map(Path, spec.submodule_search_locations)
    return sorted(f for place in places for suffix in SUFFIXES for f in place.rglob(f"*{suffix}"))
