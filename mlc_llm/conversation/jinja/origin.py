"""Text that knows of each character whether the template wrote it or a message holds it.

A control token's text is a control token only where the template itself wrote all of it. So the
template's constants, and what comes from messages, are strings of a class of their own, and the
operations that templates use on strings keep the origin of every character: joining, formatting,
replacing, splitting, trimming, slicing, changes of case.

It fails on the safe side. A result of an operation that does not know of origins is a plain
string, and plain strings count as given text, in which nothing is a control token. Otherwise
such a string is equal to Python's own: the same characters, the same hash, the same answers to
``len`` and ``in``, so that a template does with it just what it does in transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self, SupportsIndex, overload

TEMPLATE = 0
"""The origin of what the template wrote."""
GIVEN = -1
"""The origin of everything else. Numbers from 1 on are texts that are followed one by one."""


class Run(NamedTuple):
    """Neighbouring characters of one origin.

    Args:
        length: how many.
        origin: ``TEMPLATE``, ``GIVEN``, or the number of a text that is followed.
        start: for such a text, where in it the first of these characters stands; else 0.
    """

    length: int
    origin: int
    start: int = 0


class Text(str):
    """A string that knows where its characters come from."""

    __slots__ = ("__weakref__", "_runs")

    _runs: tuple[Run, ...]

    @classmethod
    def of(cls, text: str, origin: int) -> Self:
        """A text of one origin."""
        return cls._made(text, (Run(len(text), origin),) if text else ())

    @classmethod
    def _made(cls, text: str, runs: tuple[Run, ...]) -> Self:
        made = str.__new__(cls, text)
        made._runs = runs
        return made

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        return _sum(self, other, other)

    def __radd__(self, other: str) -> str:
        return _sum(other, self, other)

    def __mul__(self, times: SupportsIndex) -> str:
        return joined([self] * times.__index__())

    __rmul__ = __mul__

    @overload
    def __getitem__(self, key: SupportsIndex | slice) -> str: ...
    @overload
    def __getitem__(self, key: Any) -> str: ...
    def __getitem__(self, key: Any) -> str:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step != 1:
                return str.__getitem__(self, key)
            return self._cut(start, max(start, stop))
        str.__getitem__(self, key)  # raises what it raises
        at = key.__index__()
        at += len(self) if at < 0 else 0
        return self._cut(at, at + 1)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for run in self._runs:
            for offset in range(run.length):
                yield self._made(
                    str.__getitem__(self, start + offset), (_part(run, offset, offset + 1),)
                )
            start += run.length

    def strip(self, chars: str | None = None) -> str:
        return self._stripped(len(str.lstrip(self, chars)), len(str.rstrip(self, chars)))

    def lstrip(self, chars: str | None = None) -> str:
        return self._stripped(len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None) -> str:
        return self._stripped(len(self), len(str.rstrip(self, chars)))

    def removeprefix(self, prefix: str) -> str:
        return self[len(prefix) :] if prefix and self.startswith(prefix) else self

    def removesuffix(self, suffix: str) -> str:
        return self[: -len(suffix)] if suffix and self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._pieces(str.rsplit(self, sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        lines = self._pieces(str.splitlines(self, True), "")
        if keepends:
            return lines
        return [line[: len(bare)] for line, bare in zip(lines, str.splitlines(self), strict=True)]

    def partition(self, sep: str) -> tuple[str, str, str]:
        before, found, _after = str.partition(self, sep)
        return self._three(len(before), len(found))

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        before, found, _after = str.rpartition(self, sep)
        return self._three(len(before), len(found))

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        if not old:
            return str.replace(self, old, new, count)
        return _interleaved(new, self._pieces(str.split(self, old, count), old))

    def join(self, parts: Iterable[str]) -> str:
        items = list(parts)
        str.join(self, items)  # raises what it raises
        return _interleaved(self, items)

    def lower(self) -> str:
        return self._mapped(str.lower(self))

    def upper(self) -> str:
        return self._mapped(str.upper(self))

    def title(self) -> str:
        return self._mapped(str.title(self))

    def capitalize(self) -> str:
        return self._mapped(str.capitalize(self))

    def _cut(self, start: int, stop: int) -> Text:
        """A part of it, from one position to another, both in range."""
        runs, at = [], 0
        for run in self._runs:
            first, last = max(start - at, 0), min(stop - at, run.length)
            if first < last:
                runs.append(_part(run, first, last))
            at += run.length
            if at >= stop:
                break
        return self._made(str.__getitem__(self, slice(start, stop)), tuple(runs))

    def _stripped(self, after_left: int, after_right: int) -> Text:
        """Without what was stripped on either side, given the lengths that each side leaves."""
        start = len(self) - after_left
        return self._cut(start, max(start, after_right))

    def _pieces(self, pieces: list[str], sep: str | None) -> list[str]:
        """The pieces that it was split into, at ``sep`` or, for None, at white space."""
        found, at = [], 0
        for piece in pieces:
            if sep is None:
                at = self.find(piece, at)
            found.append(self._cut(at, at + len(piece)))
            at += len(piece) + len(sep or "")
        return list[str](found)

    def _three(self, first: int, second: int) -> tuple[str, str, str]:
        return self[:first], self[first : first + second], self[first + second :]

    def _mapped(self, text: str) -> str:
        """The text in another case. A letter may become two, and then no origin is kept."""
        if len(text) != len(self):
            return text
        kept = {TEMPLATE: TEMPLATE}  # a text that is followed is another one now
        runs = (Run(run.length, kept.get(run.origin, GIVEN)) for run in self._runs)
        return self._made(text, _merged(runs))


def runs_of(text: str) -> tuple[Run, ...]:
    """The runs of a text; a plain string is one run of given text."""
    if isinstance(text, Text):
        return text._runs
    return (Run(len(text), GIVEN),) if text else ()


def parts_of(text: str) -> Iterator[tuple[Run, str]]:
    """The runs of a text, each with its characters as a plain string."""
    at = 0
    for run in runs_of(text):
        yield run, str.__getitem__(text, slice(at, at + run.length))
        at += run.length


def text_of(parts: Iterable[tuple[Run, str]]) -> Text:
    """The text of these runs, whose characters are given."""
    runs, pieces = [], []
    for run, piece in parts:
        runs.append(run)
        pieces.append(piece)
    return Text._made("".join(pieces), _merged(runs))


def joined(parts: Iterable[str]) -> Text:
    """Texts and plain strings one after another."""
    items = list(parts)
    runs: list[Run] = []
    for item in items:
        following = runs_of(item)
        if runs and following and _continues(runs[-1], following[0]):
            runs[-1:] = _merged([runs[-1], following[0]])
            following = following[1:]
        runs += following
    return Text._made("".join(items), tuple(runs))


def _sum(left: Any, right: Any, other: Any) -> str:
    """``left + right``, of which ``other`` is the one that may be anything."""
    if not isinstance(other, str) or hasattr(other, "__html__"):
        return NotImplemented  # Markup, which has its own way to add, or an error of Python's.
    return joined((left, right))


def _interleaved(between: str, parts: list[str]) -> Text:
    items = [between] * max(2 * len(parts) - 1, 0)
    items[::2] = parts
    return joined(items)


def _part(run: Run, first: int, last: int) -> Run:
    start = run.start + first if run.origin > TEMPLATE else 0
    return Run(last - first, run.origin, start)


def _merged(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs, of which neighbours that continue each other are one."""
    merged: list[Run] = []
    for run in runs:
        last = merged[-1] if merged else None
        if last is not None and _continues(last, run):
            merged[-1] = Run(last.length + run.length, run.origin, last.start)
        else:
            merged.append(run)
    return tuple(merged)


def _continues(run: Run, following: Run) -> bool:
    """Whether a run goes on where another one ends."""
    if run.origin != following.origin:
        return False
    return run.origin <= TEMPLATE or run.start + run.length == following.start
