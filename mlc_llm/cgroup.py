"""The control groups that this process is in (cgroup v2), whose limits are its limits."""

from __future__ import annotations

import os
from pathlib import Path

_OWN = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")


def own_groups() -> list[Path]:
    """The folder of this process's group, then those of the groups around it.

    Empty where the system has no such groups.
    """
    try:
        lines = os.fsdecode(_OWN.read_bytes()).splitlines()
    except OSError:
        return []
    path = next((line[3:] for line in lines if line.startswith("0::")), None)
    if path is None:
        return []
    own = _ROOT / path.lstrip("/")
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(_ROOT)]
