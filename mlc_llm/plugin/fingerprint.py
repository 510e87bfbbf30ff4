"""What a device's ``fingerprint`` is made of: the state of driver files, without opening a driver.

A fingerprint is text that changes whenever the answer of a probe may change for another reason
than the environment or the plugin itself: a driver that was installed, updated or removed, a card
that came or went.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_MOST_BYTES = 4096
_LOADER_CACHE = Path("/etc/ld.so.cache")
_LIBRARY_FOLDERS = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/wsl/lib",
    "/usr/local/lib",
    "/usr/local/nvidia/lib64",
)


def describe_files(paths: Iterable[str | Path]) -> str:
    """The state of some files, one line each; files that are not there give none.

    Args:
        paths: files, folders and device files. Of a file that the kernel makes up (below ``/proc``
            and ``/sys``, which have no size) the content counts, of any other the size and the
            time of its last change.
    """
    lines = {str(path): _state(Path(path)) for path in paths}
    return "\n".join(f"{path} {state}" for path, state in sorted(lines.items()) if state)


def library_files(*names: str) -> list[Path]:
    """Where a shared library may be on Linux, and what the system's loader goes by.

    Args:
        names: file names, such as ``libcuda.so.1``.
    """
    named = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    folders = [Path(folder) for folder in (*filter(None, named), *_LIBRARY_FOLDERS)]
    return [_LOADER_CACHE, *(folder / name for folder in folders for name in names)]


def _state(path: Path) -> str:
    try:
        info = path.stat()
        if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            return f"device {info.st_rdev}"
        made_up = info.st_size == 0 or str(path).startswith("/sys/")
        if stat.S_ISREG(info.st_mode) and made_up:
            with path.open("rb") as file:
                return f"content {file.read(_MOST_BYTES)!r}"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"error {error.errno}"
    return f"size {info.st_size} changed {info.st_mtime_ns}"
