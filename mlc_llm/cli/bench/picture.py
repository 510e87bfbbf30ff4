"""A profile as a picture: where the time goes, and how near each kernel is to the machine's peaks.

On the left a bar for each kernel: its time, and in it, darker, the time that its bytes and
operations would take at the machine's peaks. On the right a roofline: each kernel's operations a
second over its operations a byte, below the roof that memory and arithmetic make.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_llm.cli.bench.figure import COLORS, INK, LINES, QUIET, new_figure, unframe
from mlc_llm.cli.bench.peaks import Peaks
from mlc_llm.cli.bench.profiling import KernelRow, PhaseProfile, Profile
from mlc_llm.cli.bench.tables import OUTSIDE, phase_title
from mlc_llm.cli.bench.work import Arithmetic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 0.01
"""The share of a step's time from which on a kernel has a bar and a label of its own."""

_LABEL_GAP = 13.0
"""Points of typography between two labels of the roofline."""


def draw(profile: Profile, title: str, path: Path) -> None:
    """Draw the profile into a file.

    Args:
        profile: what to draw.
        title: what was measured, in one line.
        path: the file; its ending, ``.svg`` or ``.png``, says of which kind it is.

    Raises:
        MLCError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    with new_figure(title, (15, 8), path) as figure:
        heights = [len(_bars(phase)) + 2 for phase in profile.phases]
        grid = figure.add_gridspec(
            len(heights), 2, width_ratios=(11, 10), height_ratios=heights, wspace=0.05
        )
        for index, phase in enumerate(profile.phases):
            _draw_bars(figure.add_subplot(grid[index, 0]), phase, profile.peaks)
        _draw_roofline(figure.add_subplot(grid[:, 1]), profile)


@dataclass(frozen=True)
class _Bar:
    """A bar: a kernel, or None for the kernels that are too short and for what is left."""

    label: str
    seconds: float
    row: KernelRow | None = None


def _bars(phase: PhaseProfile) -> list[_Bar]:
    """A phase's bars, from the top down."""
    long = [row for row in phase.kernels if row.seconds >= SHOWN * phase.seconds]
    short = [row for row in phase.kernels if row not in long]
    bars = [_Bar(f"{row.kernel}  ({row.calls})", row.seconds, row) for row in long]
    if short:
        name = f"{len(short)} other kernel{'s' if len(short) > 1 else ''}"
        bars.append(_Bar(name, sum(row.seconds for row in short)))
    return [*bars, _Bar(OUTSIDE, phase.outside)]


def least_seconds(row: KernelRow, peaks: Peaks) -> float:
    """The time that a kernel's bytes and operations take at the machine's peaks."""
    speed = peaks.operations[peaks.arithmetic(row.arithmetic)]
    return max(row.bytes / peaks.read, (row.operations or 0) / speed)


def _draw_bars(axes: Axes, phase: PhaseProfile, peaks: Peaks | None) -> None:
    bars, color = _bars(phase), COLORS[phase.name]
    places = range(len(bars), 0, -1)
    times = [max(0.0, 1e3 * bar.seconds) for bar in bars]
    axes.barh(places, times, height=0.72, color=color, alpha=0.28)
    if peaks is not None:
        known = [(place, bar.row) for place, bar in zip(places, bars, strict=True) if bar.row]
        least = [min(1e3 * row.seconds, 1e3 * least_seconds(row, peaks)) for _, row in known]
        axes.barh([place for place, _ in known], least, height=0.72, color=color)
    for place, bar, time in zip(places, bars, times, strict=True):
        axes.annotate(
            _bar_text(bar, phase),
            (time, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=QUIET,
            fontsize=8.5,
        )
    axes.set_yticks(list(places), [bar.label for bar in bars])
    axes.set_xlim(0, 1.45 * max(times))
    axes.tick_params(length=0)
    axes.set_xlabel("ms a step" + (", dark: at the machine's peaks" if peaks else ""))
    speed = f"{phase.tokens / phase.seconds:.0f} tok/s"
    title = f"{phase_title(phase)}, {speed}"
    axes.set_title(title, loc="left", color=color, fontweight="bold", fontsize=11)
    unframe(axes, "left")
    axes.xaxis.grid(True, color=LINES, linewidth=0.6)
    axes.set_axisbelow(True)


def _bar_text(bar: _Bar, phase: PhaseProfile) -> str:
    """What stands behind a bar."""
    parts = [f"{bar.seconds / phase.seconds:.0%}"]
    if bar.row is not None:
        parts.append(f"{bar.row.bandwidth / 1e9:.3g} GB/s")
        if bar.row.speed is not None:
            parts.append(f"{bar.row.speed / 1e9:.3g} GFLOP/s")
    return "  ".join(parts)


@dataclass(frozen=True)
class _Point:
    """A kernel in the roofline: operations a byte, and operations a second."""

    row: KernelRow
    intensity: float
    speed: float
    share: float


def _points(phase: PhaseProfile) -> list[_Point]:
    return [
        _Point(row, row.operations / row.bytes, row.speed, row.seconds / phase.seconds)
        for row in phase.kernels
        if row.operations and row.speed
    ]


def _draw_roofline(axes: Axes, profile: Profile) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    phases = [(phase, _points(phase)) for phase in profile.phases]
    points = [point for _, of_phase in phases for point in of_phase]
    _set_limits(axes, points, profile.peaks)
    if profile.peaks is not None:
        _draw_roofs(axes, profile.peaks)
    for phase, of_phase in phases:
        color = COLORS[phase.name]
        axes.scatter(
            [point.intensity for point in of_phase],
            [point.speed / 1e9 for point in of_phase],
            s=[30 + 500 * point.share for point in of_phase],
            color=color,
            alpha=0.75,
            linewidths=0.8,
            edgecolors="white",
            zorder=3,
        )
        axes.plot([], [], "o", color=color, label=phase.name)
        _draw_labels(axes, [p for p in of_phase if p.share >= SHOWN], color, phase.name == "decode")
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title("Roofline", loc="left", fontweight="bold", fontsize=11)
    axes.legend(loc="lower right", frameon=False, title="area: share of the step")
    axes.grid(True, color=LINES, linewidth=0.6)
    axes.set_axisbelow(True)
    unframe(axes, "left", "bottom")


def _set_limits(axes: Axes, points: Sequence[_Point], peaks: Peaks | None) -> None:
    """Room for all points, their labels and the roofs."""
    across = [point.intensity for point in points] or [1.0]
    up = [point.speed / 1e9 for point in points] or [1.0]
    if peaks is not None:
        up = [*up, *(value / 1e9 for value in peaks.operations.values())]
    axes.set_xlim(min(across) / 14, max(across) * 40)
    axes.set_ylim(min(up) / 3, max(up) * 2.5)


def _draw_roofs(axes: Axes, peaks: Peaks) -> None:
    """The memory's slope, and a ceiling for each kind of arithmetic."""
    left, right = axes.get_xlim()
    top = max(peaks.operations.values())
    across, up = [left, top / peaks.read], [left * peaks.read / 1e9, top / 1e9]
    axes.plot(across, up, color=INK, linewidth=1.4)
    for arithmetic, value in peaks.operations.items():
        unit = "GFLOP/s" if arithmetic is Arithmetic.FLOAT else "GOP/s"
        axes.plot([value / peaks.read, right], [value / 1e9] * 2, color=INK, linewidth=1.4)
        axes.annotate(
            f"{arithmetic}\n{value / 1e9:.0f} {unit}",
            (right, value / 1e9),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=INK,
        )
    _label_slope(axes, peaks)


def _label_slope(axes: Axes, peaks: Peaks) -> None:
    """Write the read bandwidth along the memory's slope, up to its end."""
    x = 0.9 * max(peaks.operations.values()) / peaks.read
    y = x * peaks.read / 1e9
    axes.text(
        x,
        1.15 * y,
        f"memory: {peaks.read / 1e9:.1f} GB/s",
        ha="right",
        # Along the line, on which both grow by the same factor.
        rotation=math.degrees(math.atan2(y, x)),
        rotation_mode="anchor",
        transform_rotates_text=True,
    )


def _draw_labels(axes: Axes, points: Sequence[_Point], color: str, on_the_left: bool) -> None:
    """Name the points, one below the other, with a line to each."""
    if not points:
        return
    ordered = sorted(points, key=lambda point: -point.speed)
    scale = axes.figure.dpi / 72
    pixels = [axes.transData.transform((p.intensity, p.speed / 1e9)) for p in ordered]
    heights = apart([float(y) for _, y in pixels], _LABEL_GAP * scale)
    for point, (_, y), height in zip(ordered, pixels, heights, strict=True):
        shift = (-26 if on_the_left else 26, (height - y) / scale)
        axes.annotate(
            point.row.kernel,
            (point.intensity, point.speed / 1e9),
            xytext=shift,
            textcoords="offset points",
            ha="right" if on_the_left else "left",
            va="center",
            color=color,
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6},
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.6, "alpha": 0.6},
            zorder=4,
        )


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights, which descend, moved as little as need be to be ``gap`` apart.

    Neighbours that are too near form a group, which is spread evenly around its middle.
    """
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-2], gap) - _top(groups[-1], gap) < gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_top(group, gap) - index * gap for group in groups for index in range(len(group))]


def _top(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) + gap * (len(group) - 1) / 2


def _bottom(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2
