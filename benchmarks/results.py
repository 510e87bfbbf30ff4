"""What the comparison measured: medians, the best peer, ratios, the table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

OURS = "mlc_llm"
OURS_A16 = "mlc_llm a16"
"""Ours with activations in 16 bits everywhere, which are more exact than anybody else's."""

REFERENCE = "llama.cpp"


@dataclass
class Samples:
    """What one side reached in one row, a value a round.

    Args:
        values: tokens per second.
        others: the share of the CPU that other processes took meanwhile, where that is known.
    """

    values: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{min(self.values):.1f}-{max(self.values):.1f}"


RowSamples = Mapping[str, Samples]
"""The samples of one row by the name of the side; ``name, variant`` where it has variants."""


def implementation(side: str) -> str:
    """The implementation that a side measures: its name without the variant."""
    return side.partition(",")[0]


def fastest(row: RowSamples, sides: Sequence[str]) -> str | None:
    """The side of the highest median, or None where there are no sides."""
    return max(sides, key=lambda side: row[side].median, default=None)


def best_of(row: RowSamples, name: str) -> str | None:
    """The fastest variant of an implementation, or None where it was not measured."""
    return fastest(row, [side for side in row if implementation(side) == name])


def best_peer(row: RowSamples) -> str | None:
    """The fastest side that is not ours, or None where there is none."""
    return fastest(row, [side for side in row if implementation(side) not in (OURS, OURS_A16)])


def ratio(row: RowSamples, side: str | None) -> float | None:
    """Our median over that of a side; None where one of them was not measured."""
    ours = best_of(row, OURS)
    if ours is None or side is None:
        return None
    return row[ours].median / row[side].median


def implementations(results: Mapping[str, RowSamples]) -> list[str]:
    """The implementations of all rows, in the order in which they came."""
    return list(dict.fromkeys(implementation(side) for row in results.values() for side in row))


def table(results: Mapping[str, RowSamples]) -> list[list[str]]:
    """The table's lines, its header first.

    Each implementation has its median and range, of its fastest variant in that row; then come
    our ratios to llama.cpp and to the fastest peer, which is named.
    """
    names = implementations(results)
    ratios = [f"/ {REFERENCE}", "/ best", "best"]
    header = ["tok/s", *(title for name in names for title in (name, "range"))]
    lines = [header + ratios]
    for label, row in results.items():
        line = [label]
        for name in names:
            line += _cells(row, best_of(row, name))
        peer = best_peer(row)
        line += [_figure(ratio(row, best_of(row, REFERENCE))), _figure(ratio(row, peer))]
        lines.append([*line, peer or "-"])
    return lines


def _cells(row: RowSamples, side: str | None) -> list[str]:
    if side is None:
        return ["-", "-"]
    variant = side.partition(",")[2].strip()
    median = f"{row[side].median:.1f}"
    return [f"{median} ({variant})" if variant else median, row[side].spread]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a Markdown table; the first is the header."""
    header, *body = lines
    rows = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def contention(results: Mapping[str, RowSamples]) -> str | None:
    """How busy the machine was with other things, which makes figures worthless; None: unknown."""
    shares = [share for row in results.values() for side in row.values() for share in side.others]
    if not shares:
        return None
    return (
        f"Other processes took {statistics.median(shares):.0%} of the CPU meanwhile "
        f"(median; at most {max(shares):.0%})."
    )
