"""``python -m fuzz``: run a campaign, or reproduce what one has found."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fuzz.campaign import Campaign, Tally
from fuzz.child import ROOT, environment
from fuzz.finding import reproduce
from fuzz.outcome import Outcome
from fuzz.subject import Subject, load_subject

FINDINGS = ROOT / "build" / "fuzz" / "findings"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status: 1 where something was found."""
    given = _parse(arguments)
    if given.reproduce is not None:
        return _reproduce(given.reproduce)
    from fuzz.subjects import SUBJECTS

    names = (given.subjects or list(SUBJECTS))[given.part]
    if unknown := [name for name in names if name not in SUBJECTS and ":" not in name]:
        print(
            f"There is no subject {unknown[0]}. There are: {', '.join(SUBJECTS)}", file=sys.stderr
        )
        return 2
    subjects = [load_subject(name) if ":" in name else SUBJECTS[name]() for name in names]
    campaign = Campaign(given.seed, given.inputs, given.seconds, given.findings)
    return _run(campaign, subjects)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help="by default all of them")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many (100,000)")
    parser.add_argument("--seconds", type=float, default=600.0, help="at most so long (600)")
    parser.add_argument(
        "--part",
        type=_part,
        default=slice(None),
        metavar="N/M",
        help="the Nth of M parts of the subjects, which may run beside each other",
    )
    parser.add_argument("--seed", type=int, default=0, help="another one makes other inputs (0)")
    parser.add_argument("--findings", type=Path, default=FINDINGS, help="where findings are saved")
    parser.add_argument("--reproduce", type=Path, metavar="FOLDER", help="feed a finding again")
    return parser.parse_args(arguments)


def _part(text: str) -> slice:
    """Which subjects the part ``N/M`` has."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part, as 1/2 is")
    return slice(int(found[1]) - 1, None, int(found[2]))


def _run(campaign: Campaign, subjects: Sequence[Subject]) -> int:
    total, titles = Tally("all"), ("inputs", "accepted", "refused", "findings", "seconds")
    print(f"seed {campaign.seed}\n{'subject':<18} {' '.join(f'{title:>9}' for title in titles)}")
    for event in campaign.run(subjects):
        if isinstance(event, Tally):
            _print_row(event)
            total.outcomes.update(event.outcomes)
            total.places.update(event.places)
            total.seconds += event.seconds
        else:
            finding, place = event
            print(f"  FOUND {finding.result.outcome}: {finding.result.place}")
            print(f"    python -m fuzz --reproduce {place}", flush=True)
    _print_row(total)
    used = os.times()
    print(f"{used.children_user + used.children_system:.0f} seconds of one core")
    for (outcome, where), count in total.places.most_common():
        print(f"  {count:>7}  {outcome}: {where}")
    return 1 if total.findings else 0


def _print_row(tally: Tally) -> None:
    known = [tally.outcomes[outcome] for outcome in (Outcome.ACCEPTED, Outcome.REFUSED)]
    counts = (tally.inputs, *known, tally.findings)
    cells = [*(f"{count:>9,}" for count in counts), f"{tally.seconds:>9.1f}"]
    print(f"{tally.name:<18} {' '.join(cells)}", flush=True)


def _reproduce(place: Path) -> int:
    place = place.resolve()
    with tempfile.TemporaryDirectory(prefix="mlc-llm-fuzz-") as folder, contextlib.chdir(folder):
        os.environ.update(environment(folder))
        result = reproduce(place, Path(folder))
    print(f"{result.outcome}: {result.place}\n{result.detail}")
    return 1 if result.outcome.is_finding else 0


if __name__ == "__main__":
    sys.exit(main())
