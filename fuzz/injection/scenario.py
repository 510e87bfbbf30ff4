"""What is disturbed: a command, and what must hold after an accident and after the next run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar


class Scenario(ABC):
    """A command that writes something.

    Args:
        inputs: a folder for what it reads, which accidents do not touch.
    """

    name: ClassVar[str]
    rounds: ClassVar[int]
    """How many times it is disturbed by each kind of accident, in a campaign of the usual size."""
    repeats: ClassVar[bool] = False
    """Whether it goes on until it is stopped. Such a command writes a line when it begins."""

    falls_silent: ClassVar[bool] = False
    """Whether it reads from another program, which may stop speaking."""

    def __init__(self, inputs: Path) -> None:
        self.inputs = inputs

    @abstractmethod
    def command(self, work: Path) -> list[str]:
        """The command that writes to ``work``, which exists."""

    def again(self, work: Path) -> list[str]:
        """The command that is run in peace, and ends: the same, unless that goes on for ever."""
        return self.command(work)

    def variables(self, work: Path) -> Mapping[str, str]:
        """Environment variables that it needs."""
        return {"MLC_LLM_CACHE": str(work / "cache"), "HOME": str(work)}

    def silence(self, after: int) -> AbstractContextManager[None]:
        """Let the other program say nothing more after some bytes, as long as the block runs."""
        raise NotImplementedError

    @abstractmethod
    def check(self, work: Path) -> None:
        """Check what is there after an accident: it is whole, or is not there.

        Raises:
            Unsound: it is neither.
        """

    @abstractmethod
    def check_done(self, work: Path) -> None:
        """Check that the next run has done its work, and swept up what the accident left.

        Raises:
            Unsound: it has not.
        """
