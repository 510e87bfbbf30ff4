"""The campaign finds what is planted, saves it, and feeds it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzz.__main__ import main
from fuzz.campaign import Campaign, Tally
from fuzz.finding import DESCRIPTION, Finding, reproduce
from fuzz.outcome import Outcome
from fuzz.subject import Subject
from fuzz.subjects import SUBJECTS

from .planted import FAULTS, Numbered, Planted, Refusing

OUTCOMES = {
    "foreign": Outcome.FOREIGN,
    "warning": Outcome.FOREIGN,
    "panic": Outcome.FOREIGN,
    "message": Outcome.MESSAGE,
    "memory": Outcome.MEMORY,
    "crash": Outcome.CRASH,
    "exit": Outcome.CRASH,
    "hang": Outcome.HANG,
}


@pytest.fixture(autouse=True)
def _workers_find_the_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look for modules where this process does."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent)


def run(subject: Subject, inputs: int, folder: Path) -> tuple[Tally, list[tuple[Finding, Path]]]:
    """Feed a subject; four seconds are long enough to be found hanging."""
    campaign = Campaign(0, inputs, 300, folder, hang_seconds=4)
    events = list(campaign.run([subject]))
    [tally] = [event for event in events if isinstance(event, Tally)]
    return tally, [event for event in events if not isinstance(event, Tally)]


def test_every_fault_is_found(tmp_path: Path) -> None:
    tally, found = run(Planted(), len(FAULTS) + 4, tmp_path)
    assert tally.outcomes[Outcome.ACCEPTED] == 2
    assert tally.outcomes[Outcome.REFUSED] == 2
    assert tally.findings == len(FAULTS) == len(found)
    for finding, place in found:
        word = (place / "input").read_text()
        assert OUTCOMES[word] is finding.result.outcome, word
        assert json.loads((place / DESCRIPTION).read_text())["name"] == "planted"
    places = {finding.result.place for finding, _ in found}
    assert any("SIGABRT" in place for place in places)
    assert any("exit status 3" in place for place in places)


def test_findings_are_reproduced(tmp_path: Path) -> None:
    _, found = run(Planted(), len(FAULTS) - 1, tmp_path)
    folder = tmp_path / "work"
    folder.mkdir()
    for finding, place in found:
        assert reproduce(place, folder).outcome is finding.result.outcome


def test_valid_input_that_is_refused(tmp_path: Path) -> None:
    tally, _ = run(Refusing(), 1, tmp_path)
    assert tally.outcomes[Outcome.SEED] == 1


def test_an_input_depends_on_seed_and_number_alone() -> None:
    first, second = Numbered(), Numbered()
    cases = [first.case(7, number) for number in range(50)]
    assert cases == [second.case(7, number) for number in range(50)]
    assert cases != [first.case(8, number) for number in range(50)]
    assert sum(case != first.valid[0] for case in cases) > 40


def test_parts_have_every_subject_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[list[str]] = []

    def run(campaign: Campaign, subjects: Sequence[Subject]) -> int:
        parts.append([subject.name for subject in subjects])
        return 0

    monkeypatch.setattr("fuzz.__main__._run", run)
    for part in ("1/3", "2/3", "3/3"):
        main(["--part", part])
    assert sorted(name for part in parts for name in part) == sorted(SUBJECTS)
    assert min(map(len, parts)) >= len(SUBJECTS) // 3


@pytest.mark.parametrize("part", ["0/2", "3/2", "1/0", "half"])
def test_what_is_no_part(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--part", part])
    assert part in capsys.readouterr().err
