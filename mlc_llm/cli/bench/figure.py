"""What the pictures of a benchmark have in common: their style, and the file that they go to."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlc_llm.errors import MLCError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"prefill": "#b3541e", "decode": "#1f5f8b"}
"""One for each phase; bars, points and labels have it."""

INK, QUIET, LINES = "#222222", "#6b6b6b", "#d9d9d9"
"""Colors of text and outlines, of what is less important, and of frames and grids."""

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": LINES,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": INK,
    # Text stays text, which can be searched.
    "svg.fonttype": "none",
    "svg.hashsalt": "mlc_llm",
}


def require_matplotlib() -> None:
    """Check that pictures can be drawn.

    Raises:
        MLCError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MLCError(
            "Pictures are drawn with matplotlib, which is not installed. Install it with: "
            'pip install "mlc-llm[bench]"',
            code="matplotlib-missing",
        )


@contextmanager
def new_figure(title: str, size: tuple[float, float], path: Path) -> Iterator[Figure]:
    """A figure to draw on, which is written to a file at the end of the ``with`` block.

    Args:
        title: what stands above it.
        size: width and height in inches.
        path: the file; its ending, ``.svg`` or ``.png``, says of which kind it is.

    Raises:
        MLCError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        yield figure
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def unframe(axes: Axes, *kept: str) -> None:
    """Take the frame away, but for some of its sides."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side in kept)
