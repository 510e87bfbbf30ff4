"""A campaign: all subjects in turn, one worker at a time, and what became of their inputs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.child import HANG_SECONDS, Worker
from fuzz.finding import Finding
from fuzz.outcome import Outcome, Result
from fuzz.subject import Subject, path_of

MOST_SAVED = 3
"""Findings at one place that are saved; all are counted."""


@dataclass
class Tally:
    """What became of a subject's inputs.

    Args:
        name: the subject's name.
        outcomes: how many inputs had each outcome.
        places: how many findings are at each place.
        seconds: how long it took.
    """

    name: str
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    places: Counter[tuple[Outcome, str]] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def inputs(self) -> int:
        return self.outcomes.total()

    @property
    def findings(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome.is_finding)


@dataclass(frozen=True)
class Campaign:
    """What to do.

    Args:
        seed: decides all inputs.
        inputs: how many there are, over all subjects.
        seconds: how long they may take, over all subjects.
        folder: where findings are saved.
        hang_seconds: how long one input may take.
    """

    seed: int
    inputs: int
    seconds: float
    folder: Path
    hang_seconds: float = HANG_SECONDS

    def run(self, subjects: Sequence[Subject]) -> Iterator[Tally | tuple[Finding, Path]]:
        """Feed every subject its share.

        Time that a subject does not need is left to those after it.

        Yields:
            A finding and its place when one is saved, and the tally when a subject is done.
        """
        left, end = sum(subject.share for subject in subjects), time.monotonic() + self.seconds
        total = left
        for subject in subjects:
            begin = time.monotonic()
            until = begin + max(0.0, end - begin) * subject.share / left
            left -= subject.share
            numbers = range(max(1, round(self.inputs * subject.share / total)))
            tally = Tally(subject.name)
            for result, files in self._results(subject, numbers, until):
                tally.outcomes[result.outcome] += result.number >= 0 or result.outcome.is_finding
                if not result.outcome.is_finding:
                    continue
                place = (result.outcome, result.place)
                tally.places[place] += 1
                if tally.places[place] <= MOST_SAVED:
                    finding = Finding(path_of(subject), subject.name, self.seed, result)
                    yield finding, finding.save(files, self.folder)
            tally.seconds = time.monotonic() - begin
            yield tally

    def _results(
        self, subject: Subject, numbers: range, until: float
    ) -> Iterator[tuple[Result, Path]]:
        """The results of all inputs, and where their files are for the moment; another worker goes
        on where one dies."""
        while numbers and (seconds := until - time.monotonic()) > 0:
            following = numbers.stop
            with self._worker(subject, numbers, seconds) as worker:
                for result in worker.results():
                    if result.outcome in (Outcome.HANG, Outcome.CRASH):
                        following = result.number + 1
                    if result.outcome is Outcome.HANG and result.number >= 0:
                        result = self._again(subject, result)
                    yield result, worker.files_of(result)
            if following <= numbers.start:  # It cannot even feed its seeds.
                return
            numbers = range(following, numbers.stop)

    def _again(self, subject: Subject, hang: Result) -> Result:
        """Feed what hung once more, alone: the machine may have been busy."""
        numbers = range(hang.number, hang.number + 1)
        with self._worker(subject, numbers, float("inf")) as worker:
            for result in worker.results():
                if result.number == hang.number:
                    return result
        return hang

    def _worker(self, subject: Subject, numbers: range, seconds: float) -> Worker:
        return Worker(path_of(subject), self.seed, numbers, seconds, self.hang_seconds)
