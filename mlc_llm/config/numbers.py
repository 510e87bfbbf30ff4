"""Numbers with a range: the types of the configuration's fields."""

from __future__ import annotations

import math
import numbers
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _ranged(
    kind: type[int] | type[float],
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    no_limit: bool = False,
    computable: tuple[float, float] = (-math.inf, math.inf),
) -> BeforeValidator:
    """Refuse what is not a number of that kind and range; booleans and strings are not numbers.

    Args:
        kind: ``int`` or ``float``.
        low: the least value.
        high: the greatest value; infinite for no such limit. The value itself is finite.
        above: whether ``low`` itself is out of the range.
        no_limit: whether -1 is accepted, too, for "no limit".
        computable: what can be computed with, of the numbers in that range.
    """
    noun = "a whole number" if kind is int else "a number"
    lower = f"above {low:g}" if above else f"of at least {low:g}"
    limits = lower if math.isinf(high) else f"{lower} and at most {high:g}"
    wanted = f"{noun} {limits}" + (", or -1 for no limit" if no_limit else "")

    def check(value: Any) -> int | float:
        number = _converted(value, kind)
        if number is None or not (
            low < number <= high or (number == low and not above) or (no_limit and number == -1)
        ):
            raise ValueError(f"must be {wanted}")
        least, most = computable
        if not least <= number <= most:
            end = f"at most {most}" if number > most else f"at least {least}"
            raise ValueError(f"must be {end}")
        return number

    return BeforeValidator(check)


def _converted(value: Any, kind: type[int] | type[float]) -> int | float | None:
    """A finite number of that kind; None for what is none, or would not stay the same."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        number = kind(value) if real else math.nan
    except (OverflowError, ValueError):  # An infinity, NaN, or too much for a float.
        return None
    if kind is int:
        return number if number == value else None
    return number if math.isfinite(number) else None


LARGEST = 1e9
"""Far beyond what makes sense, and well within what float32 computes with."""
MOST = 2**31 - 1
"""The largest whole number that tokens, positions and ids are counted with anywhere."""

Temperature = Annotated[float, _ranged(float, 0, computable=(0, LARGEST))]
TopP = Annotated[float, _ranged(float, 0, 1, above=True)]
MinP = Annotated[float, _ranged(float, 0, 1)]
Penalty = Annotated[float, _ranged(float, -2, 2)]
RepetitionPenalty = Annotated[
    float, _ranged(float, 0, above=True, computable=(1 / LARGEST, LARGEST))
]
FillFactor = Annotated[float, _ranged(float, 0, 1, above=True)]
LogitBias = Annotated[float, _ranged(float, -100, 100)]
Count = Annotated[int, _ranged(int, 1, computable=(1, MOST))]
Answers = Annotated[int, _ranged(int, 1, 128)]
"""A number of answers to one request; OpenAI's API gives no more either."""
Natural = Annotated[int, _ranged(int, 0, computable=(0, MOST))]
Seed = Annotated[int, _ranged(int, 0, computable=(0, 2**64 - 1))]
Threads = Annotated[int, _ranged(int, 1, 1024)]
"""More than any machine has cores today: beyond it, a number is a mistake."""
Alternatives = Annotated[int, _ranged(int, 0, 20)]
WindowSize = Annotated[int, _ranged(int, 1, no_limit=True, computable=(-1, MOST))]
"""A number of tokens; -1 means that there is no such limit."""
Sink = Annotated[int, _ranged(int, -1, computable=(-1, MOST))]
"""A number of tokens; -1 means the model's own."""
Sequences = Annotated[int, _ranged(int, -1, computable=(-1, MOST))]
"""A number of sequences; -1 means that there is no such limit."""
TokenId = Annotated[int, _ranged(int, 0, computable=(0, MOST))]
AnyTokenId = Annotated[int, _ranged(int, -MOST, MOST)]
"""A token id as models' files have it, in some of which a negative one stands for none."""
TokenIdKey = Annotated[int, Field(ge=0, le=MOST)]
"""A token id as the key of a mapping, where JSON has it as a string."""
