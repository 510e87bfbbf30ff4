"""The injection campaign finds a program that writes its file in the open, and one that stays."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

from fuzz.injection import program
from fuzz.injection.accidents import by_another, by_file_limit, by_interrupt, undisturbed
from fuzz.injection.program import Unsound
from fuzz.injection.scenario import Scenario

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

CONTENT = b"0123456789" * 10_000
IN_THE_OPEN = "open(sys.argv[1], 'wb').write(content)"
ATOMICALLY = """
import pathlib
from mlc_llm.cli.app import show_error
from mlc_llm.errors import ConversionError
from mlc_llm.files import write_atomically
try:
    write_atomically(pathlib.Path(sys.argv[1]), content)
except OSError as error:
    show_error(ConversionError(str(error)))
    sys.exit(1)
"""


class Writing(Scenario):
    """A program that writes one file."""

    name = "writing"
    rounds = 1
    program = ATOMICALLY

    def command(self, work: Path) -> list[str]:
        text = f"import sys; content = {CONTENT[:10]!r} * 10_000\n{self.program}"
        return [sys.executable, "-c", text, str(work / "file")]

    def check(self, work: Path) -> None:
        if (work / "file").exists() and (work / "file").read_bytes() != CONTENT:
            raise Unsound("half of the file is there")

    def check_done(self, work: Path) -> None:
        if [path.read_bytes() for path in work.iterdir()] != [CONTENT]:
            raise Unsound("the file is not there, or not alone")


class WritingInTheOpen(Writing):
    program = IN_THE_OPEN


class LeavingAChild(Writing):
    program = f"{IN_THE_OPEN}; import subprocess; subprocess.Popen(['sleep', '60'])"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_a_sound_program(work: Path, tmp_path: Path) -> None:
    scenario = Writing(tmp_path)
    seconds, size = undisturbed(scenario, work)
    assert size == len(CONTENT)
    for accident in (by_another, by_interrupt):
        assert accident(scenario, work, Random(0), seconds, size)
    (work / "file").unlink()
    assert by_file_limit(scenario, work, Random(0), seconds, size) == "refused"


def test_half_a_file_is_found(work: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsound):
        by_file_limit(WritingInTheOpen(tmp_path), work, Random(0), 1.0, len(CONTENT))


def test_a_process_that_stays_is_found(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_ORPHAN_SECONDS", 0.1)
    with pytest.raises(Unsound, match="sleep 60"):
        undisturbed(LeavingAChild(tmp_path), work)
