"""Sizes as they are shown to people."""

from __future__ import annotations


def size_text(nbytes: float) -> str:
    """Bytes in the largest decimal unit of which there is at least one, as disks are sold.

    Args:
        nbytes: a number of bytes.
    """
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 999.5:
            return f"{nbytes:.0f} {unit}" if unit in ("B", "kB", "MB") else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"
