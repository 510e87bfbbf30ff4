"""What is installed, for a device's probe: where a package's files are. Nothing is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_folders(name: str) -> list[Path]:
    """Where a package's files are; none where it is not installed.

    Args:
        name: a package that is in no other.
    """
    spec = importlib.util.find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []


def tvm_has_runtime(kind: str) -> bool:
    """Whether the installed TVM has its own runtime for a kind of device.

    Args:
        kind: as TVM calls it, such as ``cuda``.
    """
    return any(any(folder.glob(f"lib/*tvm_runtime_{kind}.*")) for folder in package_folders("tvm"))
