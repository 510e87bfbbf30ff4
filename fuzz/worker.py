"""The child process: feeds inputs to a subject one after another, and reports on each.

Before an input it writes the input's number, after it a :class:`~fuzz.outcome.Result`. So the
parent knows which input was the last one when this process crashes or hangs.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from fuzz.memory import peak_bytes, reset_peak
from fuzz.outcome import Outcome, Result, judge
from fuzz.subject import Case, Subject, load_subject

CASE_FOLDER, FOUND_FOLDER = "case", "found"
"""In the working folder: the input that is fed, and those that were findings, by their numbers."""
SPARE_BYTES = 64 << 20
"""Memory that any input may take, beside twice its own size."""
JSON_FACTOR = 32
"""What JSON says may take so much more than its text: a dictionary of one key takes 232 bytes in
Python, and 8 in a file. Files of each kind have a largest size, see ``mlc_llm.files``."""
ADDRESS_SPACE = 24 << 30
"""Bytes beyond which an allocation fails, so that a machine survives what is found."""


def main() -> None:
    """Feed inputs as the command line says."""
    import resource  # which Windows has not

    arguments = _arguments()
    report = os.dup(1)
    os.dup2(2, 1)  # Whatever is printed must not mix with the reports.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("error")
    subject = load_subject(arguments.subject)
    until = time.monotonic() + arguments.seconds
    for result in run(subject, arguments.seed, range(arguments.first, arguments.last), until):
        os.write(report, b"%d\n" % result if isinstance(result, int) else result.line())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("subject")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--last", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    return parser.parse_args()


def run(
    subject: Subject, seed: int, numbers: Iterable[int], until: float
) -> Iterator[int | Result]:
    """Feed the valid inputs, and then those of some numbers.

    Args:
        subject: what is fuzzed.
        seed: the campaign's seed.
        numbers: the inputs' numbers.
        until: when to stop, by ``time.monotonic``.

    Yields:
        For each input its number, and then its result.
    """
    folder = Path.cwd() / CASE_FOLDER
    for index, case in enumerate(subject.valid):
        yield -1 - index
        result = feed(subject, case, folder, -1 - index)
        if result.outcome is Outcome.MEMORY:  # What is imported and made once is not the input's.
            result = feed(subject, case, folder, -1 - index)
        if result.outcome is not Outcome.ACCEPTED:
            result = Result(result.number, Outcome.SEED, result.place, _why(subject, case, folder))
        yield _kept(result, case)
    for number in numbers:
        if time.monotonic() > until:
            return
        yield number
        case = subject.case(seed, number)
        yield _kept(feed(subject, case, folder, number), case)


def _kept(result: Result, case: Case) -> Result:
    """A result; the files of a finding are kept until the parent has taken them."""
    if result.outcome.is_finding:
        write_case(case, Path.cwd() / FOUND_FOLDER / str(result.number))
    return result


def feed(subject: Subject, case: Case, folder: Path, number: int) -> Result:
    """Write a case's files into an empty folder, and feed it.

    Args:
        subject: what is fuzzed.
        case: the input.
        folder: is emptied or made.
        number: the input's number.
    """
    write_case(case, folder)
    reset_peak()
    before, error = peak_bytes(), None
    try:
        subject.feed(folder)
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # a panic of Rust's is no Exception, nor is SystemExit
        error = raised
    taken = peak_bytes() - before
    result = judge(number, error)
    if taken > _allowed_bytes(case) and not result.outcome.is_finding:
        size = sum(map(len, case.values()))
        how = f"{taken >> 20} MiB for an input of {size >> 10} KiB ({result.outcome})"
        return Result(number, Outcome.MEMORY, "", how)
    return result


def _allowed_bytes(case: Case) -> int:
    sizes = {name: len(content) for name, content in case.items()}
    json = sum(size for name, size in sizes.items() if name.endswith(".json"))
    return SPARE_BYTES + 2 * sum(sizes.values()) + JSON_FACTOR * json


def write_case(case: Case, folder: Path) -> None:
    """Make a folder that holds a case's files and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _why(subject: Subject, case: Case, folder: Path) -> str:
    """What a seed is refused for."""
    write_case(case, folder)
    try:
        subject.feed(folder)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:2000]
    return "it took too much memory"


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # Threads of a model that is loaded need not be waited for.
