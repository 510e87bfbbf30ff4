"""A measurement and a profile as tables on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlc_llm.cli.bench.measurement import Measurement, Spread
from mlc_llm.cli.bench.peaks import Peaks
from mlc_llm.cli.bench.profiling import KernelRow, PhaseProfile, Profile
from mlc_llm.cli.bench.settings import BenchSettings
from mlc_llm.cli.bench.streams import StreamsMeasurement, StreamsResult
from mlc_llm.cli.bench.work import Arithmetic
from mlc_llm.cli.output import say
from mlc_llm.cli.table import show_table
from mlc_llm.runtime.memory import readable

OUTSIDE = "outside of kernels"

_COLUMNS = (
    *("kernel", "calls", "ms", "us a call", "share"),
    *("GB/s", "of peak", "GFLOP/s", "of peak"),
)

_STREAM_COLUMNS = (
    *("streams", "all, tok/s", "least", "most", "each, tok/s", "ratio"),
    *("first token, ms", "the last, ms", "KV cache"),
)


def headline(model: Mapping[str, Any], settings: BenchSettings) -> str:
    """What was measured, in one line.

    Args:
        model: what :func:`~mlc_llm.cli.bench.document.model_settings` gave.
        settings: the sizes.
    """
    threads = f"{model['threads']} thread{'s' if model['threads'] > 1 else ''}"
    name, quantization = Path(model["folder"]).name, model["quantization"]
    repeats = f"{settings.repeat} repeat{'s' if settings.repeat > 1 else ''}"
    parts = [
        name,
        "" if quantization in name else quantization,
        model["device"],
        threads,
        model["opt"],
        f"context {settings.context}",
        repeats,
    ]
    return ", ".join(part for part in parts if part)


def show_measurement(measurement: Measurement) -> None:
    """Print the table of throughput, time to the first token, and memory."""
    settings, memory = measurement.settings, measurement.memory
    first_token = measurement.first_token.map(lambda seconds: 1e3 * seconds)
    rows = [
        ["", "median", "least", "most"],
        _spread(f"prefill of {settings.prompt_length}, tok/s", measurement.prefill_speed),
        _spread(f"decode of {settings.generate_length}, tok/s", measurement.decode_speed),
        _spread("time to first token, ms", first_token),
        ["memory of the process, loaded", _size(memory.loaded), "", ""],
        ["memory of the process, most", _size(memory.peak), "", ""],
        ["weights", _size(memory.weights), "", ""],
        ["KV cache", _size(memory.kv_cache), "", ""],
    ]
    _show(rows)


def show_streams(measurement: StreamsMeasurement) -> None:
    """Print the table of what several streams at the same time reach."""
    settings = measurement.settings
    say(
        f"\nStreams, each with a prompt of {settings.stream_prompt} tokens and an answer of "
        f"{settings.generate_length}"
    )
    _show([_STREAM_COLUMNS, *(_stream(one, measurement) for one in measurement.results)])


def show_profile(profile: Profile) -> None:
    """Print a table for each phase, and the peaks that they are compared with."""
    for phase in profile.phases:
        say(f"\n{phase_title(phase)}")
        rows = [_kernel(row, phase, profile.peaks) for row in phase.kernels]
        _show([_COLUMNS, *rows, *_sums(phase)])
    if profile.peaks is not None:
        say(f"\nPeaks of this machine: {', '.join(peak_texts(profile.peaks))}.")


def phase_title(phase: PhaseProfile) -> str:
    """What a phase's step is and how long it takes, for people."""
    what = f"Prefill of {phase.tokens} tokens" if phase.name == "prefill" else "Decode of a token"
    return f"{what}: {1e3 * phase.seconds:.2f} ms"


def peak_texts(peaks: Peaks) -> Iterator[str]:
    """The peaks for people."""
    yield f"{peaks.read / 1e9:.1f} GB/s read"
    for arithmetic, value in peaks.operations.items():
        unit = "GFLOP/s" if arithmetic is Arithmetic.FLOAT else "GOP/s"
        yield f"{value / 1e9:.0f} {unit} {arithmetic}"


def _spread(name: str, spread: Spread) -> list[str]:
    return [name, *(f"{value:.1f}" for value in (spread.median, spread.least, spread.most))]


def _stream(result: StreamsResult, measurement: StreamsMeasurement) -> list[str]:
    speed = result.speed
    return [
        str(result.streams),
        *(f"{value:.1f}" for value in (speed.median, speed.least, speed.most)),
        f"{result.stream_speed.median:.1f}",
        f"{measurement.ratio(result):.2f}",
        f"{1e3 * result.first_token.median:.1f}",
        f"{1e3 * result.last_first_token.median:.1f}",
        _size(result.kv_cache),
    ]


def _kernel(row: KernelRow, phase: PhaseProfile, peaks: Peaks | None) -> list[str]:
    speed = row.speed
    bound = peaks.operations[peaks.arithmetic(row.arithmetic)] if peaks else None
    return [
        row.kernel,
        str(row.calls),
        f"{1e3 * row.seconds:.3f}",
        f"{1e6 * row.seconds / row.calls:.1f}",
        _share(row.seconds, phase.seconds),
        f"{row.bandwidth / 1e9:.1f}",
        _share(row.bandwidth, peaks.read if peaks else None),
        "" if speed is None else f"{speed / 1e9:.1f}",
        _share(speed, bound),
    ]


def _sums(phase: PhaseProfile) -> Iterator[list[str]]:
    """The rows for what is left and for all."""
    rest = [""] * (len(_COLUMNS) - 5)
    for name, seconds in ((OUTSIDE, phase.outside), ("step", phase.seconds)):
        yield [name, "", f"{1e3 * seconds:.3f}", "", _share(seconds, phase.seconds), *rest]


def _share(part: float | None, whole: float | None) -> str:
    return "" if part is None or whole is None else f"{part / whole:.1%}"


def _size(size: int | None) -> str:
    return "not known" if size is None else readable(size)


def _show(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, of which the first is the header, with all columns but the first on the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    header, *body = [
        [row[0], *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    show_table(header, body)
