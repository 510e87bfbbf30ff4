"""``python -m fuzz.injection``: disturb every scenario in every way, and count the outcomes."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

from fuzz.child import ROOT
from fuzz.injection.accidents import (
    Accident,
    by_another,
    by_file_limit,
    by_full_disk,
    by_interrupt,
    by_kill,
    by_silence,
    by_termination,
    has_full_disks,
    undisturbed,
)
from fuzz.injection.program import Unsound
from fuzz.injection.scenario import Scenario
from fuzz.injection.scenarios import SCENARIOS
from fuzz.injection.short_files import KINDS, cut_everywhere

ACCIDENTS: dict[str, tuple[Accident, float]] = {
    "SIGINT": (by_interrupt, 0.5),
    "SIGTERM": (by_termination, 0.3),
    "SIGKILL": (by_kill, 0.5),
    "file limit": (by_file_limit, 0.7),
    "full disk": (by_full_disk, 0.7),
    "two at once": (by_another, 0.4),
    "silence": (by_silence, 0.2),
}
"""The accidents, and how often each happens: 1 for as many times as a scenario has rounds."""
WITHOUT_DISK = ("chat",)
"""Scenarios that write nothing, so that no disk is too full for them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status: 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.injection", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="by default all of them")
    parser.add_argument("--rounds", type=float, default=1.0, help="how much of everything (1)")
    parser.add_argument("--seed", type=int, default=0, help="another one has other moments (0)")
    given = parser.parse_args(arguments)
    os.environ.setdefault("MLC_LLM_CACHE", str(ROOT / "build" / "fuzz" / "cache"))
    os.environ["MLC_LLM_HISTORY"] = ""
    names = given.scenarios or [*SCENARIOS, *KINDS]
    if unknown := [name for name in names if name not in SCENARIOS and name not in KINDS]:
        print(
            f"There is no scenario {unknown[0]!r}. There are: {[*SCENARIOS, *KINDS]}",
            file=sys.stderr,
        )
        return 2
    found = 0
    with tempfile.TemporaryDirectory(prefix="mlc-llm-injection-") as folder:
        for name in names:
            if name in KINDS:
                found += _cut(name, Path(folder))
            else:
                found += _disturb(SCENARIOS[name], Path(folder), given.rounds, given.seed)
    print(f"{found} findings" if found else "nothing was found")
    return 1 if found else 0


def _disturb(kind: type[Scenario], folder: Path, rounds: float, seed: int) -> int:
    """Disturb a scenario in every way; returns the number of findings."""
    (inputs := folder / kind.name.replace(" ", "-")).mkdir()
    scenario, found = kind(inputs), 0
    try:
        seconds, size = undisturbed(scenario, _empty(folder))
    except Unsound as problem:
        print(f"{kind.name}: FOUND, undisturbed: {problem}", flush=True)
        return 1
    for name, accident, count in _accidents(kind, rounds):
        random, outcomes, begin = Random(f"{seed}/{kind.name}/{name}"), Counter[str](), time.time()
        for number in range(count):
            try:
                outcomes[accident(scenario, _empty(folder), random, seconds, size)] += 1
            except Unsound as problem:
                outcomes["FOUND"] += 1
                print(f"  FOUND {kind.name}, {name} {number}: {problem}", flush=True)
        found += outcomes["FOUND"]
        _print_row(kind.name, name, outcomes, time.time() - begin)
    return found


def _accidents(kind: type[Scenario], rounds: float) -> Iterator[tuple[str, Accident, int]]:
    for name, (accident, often) in ACCIDENTS.items():
        needs_disk = accident in (by_file_limit, by_full_disk)
        if accident is by_silence and not kind.falls_silent:
            continue
        if needs_disk and (kind.name in WITHOUT_DISK or kind.repeats):
            continue
        if accident is by_full_disk and not has_full_disks():
            print(f"{kind.name:<20} {name:<12}    0: no file system may be mounted here")
            continue
        yield name, accident, max(1, round(kind.rounds * often * rounds))


def _empty(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


def _cut(name: str, folder: Path) -> int:
    begin, outcomes = time.time(), Counter[str]()
    try:
        outcomes.update(cut_everywhere(name, _empty(folder)))
    except Unsound as problem:
        outcomes["FOUND"] += 1
        print(f"  FOUND {name}: {problem}")
    _print_row(name, "cut short", outcomes, time.time() - begin)
    return outcomes["FOUND"]


def _print_row(name: str, accident: str, outcomes: Counter[str], seconds: float) -> None:
    told = ", ".join(f"{outcome} {times}" for outcome, times in outcomes.most_common())
    print(f"{name:<20} {accident:<12} {outcomes.total():>4}: {told} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # Threads of a model that is loaded need not be waited for.
