"""Streams as a picture: what several answers at the same time gain, and what each of them waits.

On the left the speed of all streams, beside the line on which each would be as fast as one that is
alone; in the middle the speed of each; on the right the time to the first token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_llm.cli.bench.figure import COLORS, INK, LINES, QUIET, new_figure, unframe
from mlc_llm.cli.bench.measurement import Spread
from mlc_llm.cli.bench.streams import StreamsMeasurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_streams(measurement: StreamsMeasurement, title: str, path: Path) -> None:
    """Draw what was measured into a file.

    Args:
        measurement: what to draw.
        title: what was measured, in one line.
        path: the file; its ending, ``.svg`` or ``.png``, says of which kind it is.

    Raises:
        MLCError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    results = measurement.results
    counts = [result.streams for result in results]
    speeds = [result.speed for result in results]
    ratios = [f"{measurement.ratio(result):.2f}x" for result in results]
    first = [result.first_token.map(_milliseconds) for result in results]
    last = [result.last_first_token.map(_milliseconds) for result in results]
    with new_figure(title, (15, 5), path) as figure:
        all_streams, each, wait = figure.subplots(1, 3)
        alone = speeds[0].median
        ideal = [alone * count for count in counts]
        all_streams.plot(counts, ideal, "--", color=LINES, label="each as fast as one alone")
        _draw_line(all_streams, counts, speeds, COLORS["decode"], "measured")
        _label(all_streams, counts, speeds, ratios)
        all_streams.set_ylim(0, 1.4 * max(speed.most for speed in speeds))
        all_streams.legend(loc="upper left", frameon=False)
        _finish(all_streams, "All streams", "tok/s", counts)
        stream_speeds = [result.stream_speed for result in results]
        _draw_line(each, counts, stream_speeds, COLORS["decode"])
        _label(each, counts, stream_speeds, [f"{speed.median:.1f}" for speed in stream_speeds])
        each.set_ylim(0, 1.2 * max(speed.most for speed in stream_speeds))
        _finish(each, "Each stream", "tok/s", counts)
        _draw_line(wait, counts, last, COLORS["prefill"], "the last stream")
        _draw_line(wait, counts, first, QUIET, "the stream in the middle")
        wait.set_ylim(0, 1.4 * max(time.most for time in last))
        wait.legend(loc="upper left", frameon=False)
        _finish(wait, "Time to the first token", "ms", counts)


def _milliseconds(seconds: float) -> float:
    return 1e3 * seconds


def _draw_line(
    axes: Axes, counts: Sequence[int], spreads: Sequence[Spread], color: str, label: str = ""
) -> None:
    """The medians, and around them the least and the most."""
    least, most = [one.least for one in spreads], [one.most for one in spreads]
    axes.fill_between(counts, least, most, color=color, alpha=0.2, linewidth=0)
    axes.plot(counts, [one.median for one in spreads], "o-", color=color, label=label or None)


def _label(
    axes: Axes, counts: Sequence[int], spreads: Sequence[Spread], texts: Sequence[str]
) -> None:
    for count, spread, text in zip(counts, spreads, texts, strict=True):
        axes.annotate(
            text,
            (count, spread.median),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=8.5,
        )


def _finish(axes: Axes, title: str, unit: str, counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("streams")
    axes.set_ylabel(unit)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.yaxis.grid(True, color=LINES, linewidth=0.6)
    axes.set_axisbelow(True)
    unframe(axes, "left", "bottom")
