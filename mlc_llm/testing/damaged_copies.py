"""Copies of a checkpoint with one file damaged, for the tests of formats."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

FLIPS = 64
"""Bytes that are changed in each file, one at a time."""

_HEAD, _TAIL = 4096, 1024
"""Bytes at a file's beginning and end, where headers are, and the tables of archives."""


@dataclass(frozen=True)
class Damage:
    """What is done to one file of a copy.

    Args:
        file: the damaged file of the copy.
        what: what was done to it, for messages.
        is_cut: whether its end is missing.
    """

    file: Path
    what: str
    is_cut: bool


class Copy:
    """A copy of a checkpoint, of which one file at a time is damaged.

    Args:
        checkpoint: the file or folder; a file's neighbours of the same suffix are copied, too, as a
            checkpoint may have several.
        folder: where the copy is made; it must not exist.
    """

    def __init__(self, checkpoint: Path, folder: Path) -> None:
        if checkpoint.is_dir():
            self.path = Path(shutil.copytree(checkpoint, folder))
            self.files = sorted(path for path in folder.rglob("*") if path.is_file())
            return
        folder.mkdir()
        self.path = folder / checkpoint.name
        beside = sorted(checkpoint.parent.glob(f"*{checkpoint.suffix}"))
        self.files = [Path(shutil.copy(file, folder)) for file in beside if file.is_file()]

    def cut(self) -> Iterator[Damage]:
        """Cut each file short: to nothing, to parts, and by one byte."""
        for file in self.files:
            whole = file.read_bytes()
            for length in sorted({0, 8, len(whole) // 2, max(0, len(whole) - 1)}):
                if length < len(whole):
                    file.write_bytes(whole[:length])
                    yield Damage(file, f"{length} of {len(whole)} bytes are left", is_cut=True)
            file.write_bytes(whole)

    def flipped(self) -> Iterator[Damage]:
        """Change single bytes near the beginning and the end of each file."""
        random = Random(0)
        for file in self.files:
            whole = file.read_bytes()
            places = {*range(len(whole))[:_HEAD], *range(len(whole))[-_TAIL:]}
            for place in random.sample(sorted(places), min(FLIPS, len(places))):
                changed = bytearray(whole)
                changed[place] ^= 1 << random.randrange(8)
                file.write_bytes(changed)
                yield Damage(file, f"byte {place} is changed", is_cut=False)
            file.write_bytes(whole)
