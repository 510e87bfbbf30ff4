"""What may become of an input, and what is a finding."""

from __future__ import annotations

import json
import traceback
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import mlc_llm
from mlc_llm.errors import MLCError

LONGEST_MESSAGE = 10_000
"""Characters of an error's message: beyond it, a value was put into it uncut."""

_PACKAGE = str(Path(mlc_llm.__file__).parent)


class Outcome(StrEnum):
    """What became of an input."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """An error of ours."""
    FOREIGN = "foreign error"
    """Any other exception, warnings among them."""
    MESSAGE = "bad message"
    """An error of ours without end."""
    MEMORY = "memory"
    """It took more than it may."""
    HANG = "hang"
    CRASH = "crash"
    SEED = "seed refused"
    """Valid input was not accepted: the subject is wrong, or mlc_llm."""

    @property
    def is_finding(self) -> bool:
        return self not in (Outcome.ACCEPTED, Outcome.REFUSED)


@dataclass(frozen=True)
class Result:
    """What became of one input.

    Args:
        number: the input's number; below 0 for a seed.
        outcome: what became of it.
        place: for a finding, where it is: equal for findings that are probably one.
        detail: for a finding, what there is to read.
    """

    number: int
    outcome: Outcome
    place: str = ""
    detail: str = ""

    def line(self) -> bytes:
        """What :meth:`of_line` reads."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Result:
        """What :meth:`line` wrote."""
        fields = json.loads(line)
        return cls(**{**fields, "outcome": Outcome(fields["outcome"])})


def judge(number: int, error: BaseException | None) -> Result:
    """What an input's end means: an exception, or None where it was accepted."""
    if error is None:
        return Result(number, Outcome.ACCEPTED)
    if isinstance(error, MLCError):
        text = str(error)
        if len(text) <= LONGEST_MESSAGE and error.code:
            return Result(number, Outcome.REFUSED)
        return Result(
            number,
            Outcome.MESSAGE,
            _place(error),
            f"{type(error).__name__} of {len(text)} characters: {text[:300]!r}",
        )
    shown = "".join(traceback.format_exception(error, limit=-12))
    return Result(number, Outcome.FOREIGN, _place(error), shown[-4000:])


def _place(error: BaseException) -> str:
    """The innermost of our own lines, and the type of what came of it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(_PACKAGE)]
    for frame in reversed(ours or frames):
        file = frame.filename.removeprefix(_PACKAGE).lstrip("/")
        return f"{type(error).__name__} at {file}:{frame.lineno}"
    return type(error).__name__
