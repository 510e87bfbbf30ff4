"""Where the time of a prefill and of a decode step goes: kernel by kernel, and what is left.

Steps whose kernels are timed and whole steps take turns; what the kernels do not account for is the
virtual machine, Python, and the choice of the token.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mlc_llm.chat.loading import LoadedChat
from mlc_llm.cli.bench.passes import Passes
from mlc_llm.cli.bench.peaks import Peaks
from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.cli.bench.work import Arithmetic, Work, WorkModel
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.profile import KernelCall, time_kernels

WARM_UP_STEPS = 8


@dataclass(frozen=True)
class KernelRow:
    """All calls of one kernel in one step.

    Args:
        kernel: its name and, for a matrix product, the weight's rows and columns.
        calls: how many in one step.
        seconds: of all of them; the median over the steps.
        bytes: moved by all of them, as the work model says.
        operations: computed by all of them; None where they are not known.
        arithmetic: which peak bounds the operations.
    """

    kernel: str
    calls: int
    seconds: float
    bytes: float
    operations: float | None
    arithmetic: Arithmetic

    @property
    def bandwidth(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds

    @property
    def speed(self) -> float | None:
        """Operations a second."""
        return None if self.operations is None else self.operations / self.seconds


@dataclass(frozen=True)
class PhaseProfile:
    """One step of a phase: a prefill of the whole prompt, or the decoding of one token.

    Args:
        name: ``prefill`` or ``decode``.
        tokens: that pass in one step.
        steps: how many were timed as a whole; the kernels were timed as often.
        seconds: of a whole step; the median.
        kernels: the kernels, the longest first.
    """

    name: str
    tokens: int
    steps: int
    seconds: float
    kernels: tuple[KernelRow, ...]

    @property
    def outside(self) -> float:
        """Seconds of a step outside of kernels: virtual machine, Python, choice of the token.

        It is what is left of the step's time. Where noise makes the kernels seem longer than the
        step, it is negative.
        """
        return self.seconds - sum(row.seconds for row in self.kernels)


@dataclass(frozen=True)
class Profile:
    """Both phases, and what the machine can do; None where that is not known."""

    phases: tuple[PhaseProfile, ...]
    peaks: Peaks | None


def profile(
    chat: LoadedChat, settings: BenchSettings | None = None, peaks: Peaks | None = None
) -> Profile:
    """Profile prefills and decode steps of a loaded model. Its KV cache is empty afterwards.

    Args:
        chat: the loaded model.
        settings: the sizes; ``repeat`` prefills and about ``generate_length`` decode steps are
            timed.
        peaks: the machine's; see :func:`~mlc_llm.cli.bench.peaks.measure_peaks`.

    Raises:
        PromptTooLongError: the tokens do not fit into the model's window.
        GenerationError: the model failed.
    """
    settings = settings or BenchSettings()
    return Profile(chat.engine.call(lambda stop: _phases(chat, settings, stop)), peaks)


class _Steps(NamedTuple):
    """Seconds of whole steps, and the kernel calls of the others."""

    seconds: list[float]
    calls: list[list[KernelCall]]


def _phases(chat: LoadedChat, settings: BenchSettings, stop: Stop) -> tuple[PhaseProfile, ...]:
    model = chat.model
    passes = Passes(model, settings, stop)
    work = WorkModel(model.metadata, model.vocab_size)
    found = {"prefill": _Steps([], []), "decode": _Steps([], [])}
    run = {
        "prefill": lambda: passes.prefill().first_token,
        "decode": lambda: passes.decode(1),
    }
    passes.prefill()
    passes.decode(min(WARM_UP_STEPS, settings.generate_length))
    at_once = {"prefill": 1, "decode": max(1, settings.generate_length // settings.repeat)}
    for _ in range(settings.repeat):
        for name, steps in found.items():
            steps.calls.extend(time_kernels(model, run[name], at_once[name]))
            steps.seconds.extend(run[name]() for _ in range(at_once[name]))
    model.reset()
    tokens = {"prefill": settings.prompt_length, "decode": 1}
    return tuple(_phase(name, tokens[name], steps, work) for name, steps in found.items())


def _phase(name: str, tokens: int, steps: _Steps, work: WorkModel) -> PhaseProfile:
    rows = kernel_rows(steps.calls, work)
    return PhaseProfile(name, tokens, len(steps.seconds), statistics.median(steps.seconds), rows)


def kernel_rows(steps: Sequence[Sequence[KernelCall]], work: WorkModel) -> tuple[KernelRow, ...]:
    """What steps of one kind have in common, a row for each kernel, the longest first.

    Args:
        steps: the calls of each step, which makes the same ones each time.
        work: the work of a call.
    """
    first: dict[str, list[Work]] = defaultdict(list)
    for call in steps[0]:
        done = work.of(call)
        first[done.kernel].append(done)
    seconds: dict[str, list[float]] = {kernel: [] for kernel in first}
    for step in steps:
        total: dict[str, float] = defaultdict(float)
        for call in step:
            total[work.of(call).kernel] += call.seconds
        for kernel, times in seconds.items():
            times.append(total[kernel])
    rows = [_row(kernel, done, seconds[kernel]) for kernel, done in first.items()]
    return tuple(sorted(rows, key=lambda row: row.seconds, reverse=True))


def _row(kernel: str, done: Sequence[Work], seconds: Sequence[float]) -> KernelRow:
    known = [one.operations for one in done if one.operations is not None]
    return KernelRow(
        kernel,
        len(done),
        statistics.median(seconds),
        sum(one.bytes for one in done),
        sum(known) if len(known) == len(done) else None,
        done[0].arithmetic,
    )
