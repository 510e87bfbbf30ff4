"""The accidents: how a command is disturbed, and what is asked of it afterwards."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz.injection.program import HANG_SECONDS, Ended, Program, Unsound, run
from fuzz.injection.scenario import Scenario

Accident = Callable[[Scenario, Path, Random, float, int], str]
"""Disturbs a scenario in an empty folder, given how long it takes undisturbed and how many bytes it
then has written; returns what became of it, and raises Unsound for a finding."""


_SPARE_KIB = 16
"""Room on a disk that is too small, for folders and for files that are rounded up to pages."""


def by_interrupt(scenario: Scenario, work: Path, random: Random, seconds: float, size: int) -> str:
    """Ctrl-C."""
    return _by_signal(scenario, work, random.uniform(0, seconds), signal.SIGINT)


def by_termination(
    scenario: Scenario, work: Path, random: Random, seconds: float, size: int
) -> str:
    """What ends a service."""
    return _by_signal(scenario, work, random.uniform(0, seconds), signal.SIGTERM)


def by_kill(scenario: Scenario, work: Path, random: Random, seconds: float, size: int) -> str:
    """What leaves a process no moment to sweep up."""
    return _by_signal(scenario, work, random.uniform(0, seconds), signal.SIGKILL)


def _by_signal(scenario: Scenario, work: Path, after: float, number: signal.Signals) -> str:
    """A signal at any moment, from the first line of Python on to the end."""
    program = Program(scenario.command(work), scenario.variables(work))
    if scenario.repeats:
        _wait_for_begin(program)
    time.sleep(after)
    program.process.send_signal(number)
    ended = program.end()
    if number is not signal.SIGINT or "Traceback" not in ended.errors:
        ended.require_sound()
    elif "KeyboardInterrupt" not in ended.errors:
        raise Unsound(f"interrupted, it failed otherwise: {ended.words}")
    scenario.check(work)
    _run_again(scenario, work)
    return "it had finished" if ended.code == 0 else "stopped"


def by_file_limit(scenario: Scenario, work: Path, random: Random, seconds: float, size: int) -> str:
    """No file may grow beyond some size, which looks like a full disk to every program."""
    limit = random.choice((0, 1, 4096, random.randrange(size + 1), random.randrange(size + 1)))
    ended = Program(scenario.command(work), scenario.variables(work), limit).end()
    return _failed_for_space(scenario, work, ended)


def by_full_disk(scenario: Scenario, work: Path, random: Random, seconds: float, size: int) -> str:
    """A disk that is too small, which has room when the command is run again.

    It is a file system in memory that only the command sees, so its files are copied out of there.
    """
    given, inside, outside = (work / name for name in ("given", "disk", "copy"))
    for folder in (inside, outside):
        folder.mkdir()
    command = scenario.command(inside)  # It may put files there, which the new disk would hide.
    inside.rename(given)
    inside.mkdir()
    there = sum(path.stat().st_size for path in given.rglob("*"))
    kib = (there + random.randrange(2 * size) >> 10) + _SPARE_KIB
    script = (
        'mount -t tmpfs -o "size=$0k" none "$1" || exit 99; given=$2 disk=$1 copy=$3; shift 3\n'
        'cp -a "$given/." "$disk" || exit 99\n'
        '"$@"; code=$?; cp -a "$disk/." "$copy"; exit $code'
    )
    folders = map(str, (inside, given, outside))
    wrapped = ["unshare", "-rm", "sh", "-c", script, str(kib), *folders]
    ended = Program([*wrapped, *command], scenario.variables(inside)).end()
    if ended.code == 99:
        raise Unsound(f"there is no disk to fill: {ended.words}")
    inside.rmdir()
    outside.rename(inside)
    return _failed_for_space(scenario, inside, ended)


def has_full_disks() -> bool:
    """Whether this user may have a file system of his own here."""
    if shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs none /mnt"]
    return subprocess.run(mount, capture_output=True).returncode == 0


def by_another(scenario: Scenario, work: Path, random: Random, seconds: float, size: int) -> str:
    """The same command at the same time, begun a moment later."""
    programs = []
    for _ in range(2):
        programs.append(Program(scenario.command(work), scenario.variables(work)))
        time.sleep(random.uniform(0, seconds / 3))
    if scenario.repeats:
        for program in programs:
            _wait_for_begin(program)
        time.sleep(seconds)
        for program in programs:
            program.process.send_signal(signal.SIGKILL)
    ended = [program.end() for program in programs]
    for one in ended:
        one.require_sound()
    scenario.check(work)
    done = sum(one.code == 0 for one in ended)
    if not done and not scenario.repeats:
        raise Unsound(f"neither of two has done it: {ended[0].words} {ended[1].words}")
    _run_again(scenario, work)
    return "both" if done == 2 else "one, and one was refused" if done else "both, and killed"


def by_silence(scenario: Scenario, work: Path, random: Random, seconds: float, size: int) -> str:
    """What it reads from keeps its connection open, and sends nothing more."""
    with scenario.silence(random.randrange(size)):
        ended = Program(scenario.command(work), scenario.variables(work)).end()
    ended.require_sound()
    if ended.code == 0:
        raise Unsound("it ended well, with half of what it asked for")
    scenario.check(work)
    _run_again(scenario, work)
    return "refused"


def undisturbed(scenario: Scenario, work: Path) -> tuple[float, int]:
    """Run a scenario once as it should be; returns for how long it can be disturbed, in seconds,
    and the bytes of the largest file that it wrote."""
    begin = time.monotonic()
    run(scenario.again(work), scenario.variables(work)).require_success("the first run")
    seconds = 1.0 if scenario.repeats else time.monotonic() - begin
    size = max((path.stat().st_size for path in work.rglob("*") if path.is_file()), default=1)
    scenario.check_done(work)
    return seconds, size


def _failed_for_space(scenario: Scenario, work: Path, ended: Ended) -> str:
    """Whether a command that had no room says so, and works when there is some."""
    ended.require_sound()
    scenario.check(work)
    _run_again(scenario, work)
    return "there was room" if ended.code == 0 else "refused"


def _run_again(scenario: Scenario, work: Path) -> None:
    run(scenario.again(work), scenario.variables(work)).require_success("the next run")
    scenario.check_done(work)


def _wait_for_begin(program: Program) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not program.written():
        if program.process.poll() is not None:
            ended = program.end()
            raise Unsound(f"it did not begin: {ended.words}")
        if time.monotonic() > deadline:
            program.process.kill()
            program.end()
            raise Unsound("it does not begin")
        time.sleep(0.01)
