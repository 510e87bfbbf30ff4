"""Library files that lie beside the weights or under ``dist/``, where MLC LLM keeps them.

Native code from there may have come with a download, so such files are only named, and opened
when the user allows it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.library.record import LARGEST_LIBRARY, check_file
from mlc_llm.plugin.hookspecs import hookimpl
from mlc_llm.plugin.model_library import Found, LibraryRequest, NotFound
from mlc_llm.registry.registry import Registry, default_registry

ALLOW_VARIABLE = "MLC_LLM_ALLOW_PREBUILT"
SUFFIXES = (".so", ".dylib", ".dll")
DIST_FOLDERS = (
    "dist",
    "dist/libs",
    "dist/lib",
    "dist/prebuilt/lib",
    "dist/prebuilt_libs",
    "dist/prebuilt_libs/*",
)
MAX_FILES, MAX_BYTES = 64, 1 << 30
"""Most files that are looked into, and their size; those whose name has the model's come first."""


class PrebuiltProvider:
    """Answers with a file that lies about and fits, if the user allows such files."""

    name = "prebuilt"
    order = 80

    def __init__(self, registry: Registry | None = None) -> None:
        self._registry = registry

    @hookimpl
    def mlc_llm_find_library(self, request: LibraryRequest) -> Found | NotFound | None:
        if request.named is not None:
            return None
        device = (self._registry or default_registry()).device(request.device)
        allowed = request.allow_prebuilt or _allowed_by_environment()
        looked_at = []
        files = candidates(request.model_path)
        few = _few(files)
        for path in few:
            reason = check_file(path, request, device)
            if reason is None and allowed:
                return Found(path, self.name)
            if reason is None:
                reason = f"it fits, but is not opened unless {ALLOW_VARIABLE}=1 (--allow-prebuilt)"
            looked_at.append((str(path), reason))
        if len(files) > len(few):
            looked_at.append((f"{len(files) - len(few)} more files", "too many to look into"))
        return NotFound(self.name, tuple(looked_at)) if looked_at else None


def candidates(model_path: Path) -> list[Path]:
    """The library files beside the weights, then those under ``dist/``, likely names first."""
    model = model_path.name.removesuffix("-MLC").lower()
    beside = sorted(_libraries(model_path))
    under_dist: set[Path] = set()
    with contextlib.suppress(FileNotFoundError):  # The current folder was deleted.
        here = Path.cwd()
        for pattern in DIST_FOLDERS:
            for folder in here.glob(pattern):
                under_dist.update(_libraries(folder))
    others = sorted(under_dist.difference(beside), key=lambda p: (model not in p.name.lower(), p))
    return [*beside, *others]


def _few(files: list[Path]) -> list[Path]:
    """The first files, as many as are looked into; those too large to be read cost nothing."""
    few, size = [], 0
    for path in files[:MAX_FILES]:
        with contextlib.suppress(OSError):  # It is said when it is opened.
            nbytes = path.stat().st_size
            size += nbytes if nbytes <= LARGEST_LIBRARY else 0
        if size > MAX_BYTES:
            break
        few.append(path)
    return few


def _libraries(folder: Path) -> Iterator[Path]:
    try:
        yield from (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    except OSError:
        # No such folder, or not ours to read: there is nothing to offer.
        return


def _allowed_by_environment() -> bool:
    return os.environ.get(ALLOW_VARIABLE, "").strip().lower() in ("1", "on", "true", "yes")
