"""The folders that mlc_llm and the hub write to, what is in the library cache, and the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.cache_root import CACHE_VARIABLE
from mlc_llm.cli.doctor.finding import Finding, Status
from mlc_llm.errors import LibraryError, MLCError
from mlc_llm.library.cache import LIBRARY_SUFFIX, LibraryCache
from mlc_llm.library.jit import JITProvider
from mlc_llm.library.record import read_record
from mlc_llm.library.trust import ownership
from mlc_llm.plugin.model_library import LibraryRecord, LibraryRequest
from mlc_llm.registry.registry import Registry

YOURS_ALONE = f"Make it yours alone (chmod 700), or name another folder in {CACHE_VARIABLE}."

LITTLE_SPACE = 2 << 30
"""Bytes; a model of a thousand million parameters in 4 bits takes a third of it."""
NO_SPACE = 16 << 20
"""Bytes that compiling one library takes for a while, its parts included."""


def check_library_cache(registry: Registry, cache: LibraryCache | None = None) -> Iterator[Finding]:
    """Whether libraries can be cached, and whether those that are there still serve."""
    cache = cache or LibraryCache()
    yield writable_finding("libraries", cache.folder, CACHE_VARIABLE)
    try:
        if why := cache.folder_problem():
            detail = f"{cache.folder} is not used: {why}"
            yield Finding("cache", "owner", Status.BROKEN, detail, YOURS_ALONE)
        listed = sorted(cache.folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        detail = _refused(cache.folder, "read", error)
        yield Finding("cache", "contents", Status.BROKEN, detail, YOURS_ALONE)
        return
    files = [path for path in listed if path.suffix == LIBRARY_SUFFIX]
    stale, unreadable = [], []
    for path in files:
        try:
            if why := _stale(read_record(path), path, cache, registry):
                stale.append((path, why))
            elif why := cache.problem(path):
                unreadable.append((path, f"it will be compiled again: {why}"))
        except (LibraryError, OSError) as error:
            unreadable.append((path, str(error)))
    yield Finding("cache", "contents", Status.OK, f"libraries: {len(files)}, {_size(files)}")
    for path, why in unreadable:
        yield Finding("cache", path.name, Status.WARNING, why, f"Delete {path}.")
    if stale:
        path, why = stale[0]
        paths = [path for path, _ in stale]
        detail = f"{len(stale)} of them, {_size(paths)}, are not used any more, such as "
        remedy = f"Delete them to save space: they are in {cache.folder}."
        yield Finding("cache", "stale", Status.WARNING, f"{detail}{path.name}: {why}", remedy)


def _stale(record: LibraryRecord, path: Path, cache: LibraryCache, registry: Registry) -> str:
    """Why a cached library will not be asked for again; empty when it may be."""
    if record.device not in registry.names("device"):
        return f"its device {record.device!r} is not installed"
    request = LibraryRequest(record.spec, record.device, record.target, cache.folder)
    try:
        key = JITProvider(cache, registry=registry).key(request)
    except MLCError as error:
        return str(error)
    if cache.path(key) == path:
        return ""
    return "it was compiled by another version of mlc-llm, of TVM or of a plugin"


def writable_finding(name: str, folder: Path, variable: str) -> Finding:
    """Whether a folder can be written, or made where it is not there yet."""
    remedy = f"Make it writable, or name another folder in {variable}."
    place = nearest(folder)
    if not place.is_dir():
        return Finding("cache", name, Status.BROKEN, f"{place} is a file, not a folder", remedy)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        detail = _refused(folder, "written", error)
        return Finding("cache", name, Status.BROKEN, detail, remedy)
    detail = str(folder) if place == folder else f"{folder} (not there yet)"
    return Finding("cache", name, Status.OK, detail)


def _refused(folder: Path, done: str, error: OSError) -> str:
    """That a folder cannot be read or written, and whose it, or what it would be in, is."""
    place = nearest(folder)
    owner = f" ({whose})" if (whose := ownership(place)) else ""
    return f"{folder} cannot be {done}: {error.strerror or error}{owner}"


def check_disk(folders: dict[str, Path]) -> Iterator[Finding]:
    """How much space is left.

    Args:
        folders: by the environment variable that moves each.
    """
    seen: set[int] = set()
    for variable, folder in folders.items():
        place = nearest(folder)
        disk = os.stat(place).st_dev  # noqa: PTH116
        if disk in seen:
            continue
        seen.add(disk)
        free = shutil.disk_usage(place).free
        detail = f"{free / 2**30:.2f} GiB are free for {folder}"
        if free >= LITTLE_SPACE:
            yield Finding("disk", str(place), Status.OK, detail)
        else:
            remedy = f"Free some space, or set {variable} to a folder on another disk."
            status = Status.WARNING if free >= NO_SPACE else Status.BROKEN
            yield Finding("disk", str(place), status, detail, remedy)


def nearest(folder: Path) -> Path:
    """The folder, or the innermost of its parents that is there."""
    return next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110


def _size(paths: list[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 2**20:.1f} MiB"
