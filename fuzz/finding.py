"""A finding on the disk: the input's files, and beside them what became of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from fuzz.outcome import Result
from fuzz.subject import load_subject
from fuzz.worker import feed

DESCRIPTION = "finding.json"


@dataclass(frozen=True)
class Finding:
    """An input that did what no input may do.

    Args:
        subject: as :func:`fuzz.subject.load_subject` takes it.
        name: the subject's name.
        seed: the campaign's seed.
        result: what became of the input.
    """

    subject: str
    name: str
    seed: int
    result: Result

    def save(self, files: Path, folder: Path) -> Path:
        """Copy an input's files into a folder of their own, and describe it there.

        Args:
            files: the folder that has them.
            folder: where findings are; made if need be.

        Returns:
            The finding's own folder.
        """
        place = folder / f"{self.name}-{self.seed}-{self.result.number}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if files.is_dir():
            shutil.copytree(files, place, dirs_exist_ok=True)
        (place / DESCRIPTION).write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        return place


def reproduce(place: Path, folder: Path) -> Result:
    """Feed a finding once more, in this process, where a debugger sees it.

    Args:
        place: what :meth:`Finding.save` returned.
        folder: an empty folder to work in.
    """
    description = json.loads((place / DESCRIPTION).read_text(encoding="utf-8"))
    case = {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and path.name != DESCRIPTION
    }
    subject = load_subject(description["subject"])
    for seed in subject.valid:  # What is made once takes memory that is not the input's.
        feed(subject, seed, folder / "case", -1)
    result = feed(subject, case, folder / "case", description["result"]["number"])
    shutil.rmtree(folder / "case")
    return result
