"""One exchange of a dialogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Turn:
    """What the user says, and what the assistant answers."""

    user: str
    answer: str


Skill = Callable[[Random], list[Turn]]
"""Makes a few turns that belong together."""
