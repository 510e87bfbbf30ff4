"""What is fuzzed: its valid inputs, how they are mutated, and where they are fed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from random import Random
from typing import ClassVar

from fuzz.mutation import mutate_file

Case = Mapping[str, bytes]
"""One input: the content of each file by its name. A prompt, which is not a file, is one of
JSON here, so that a finding can be saved and read."""


class Subject(ABC):
    """One kind of input. Each worker process makes one of these and feeds it many cases.

    A subclass gives valid inputs and a function that feeds one. Where it needs something that takes
    long to make, a ``cached_property`` makes it once a process.
    """

    name: ClassVar[str]
    """What it is called on the command line and in the table."""
    share: ClassVar[float] = 1.0
    """How many inputs it gets, compared with the others."""

    @abstractmethod
    def seeds(self) -> list[Case]:
        """Valid inputs, small ones. Each must be accepted as it is."""

    @abstractmethod
    def feed(self, folder: Path) -> None:
        """Give an input to mlc_llm, through functions that its users reach.

        Where it is accepted, it should also be used: what was loaded is read, what was parsed is
        computed with.

        Args:
            folder: has the case's files, and nothing else. It may be written to.

        Raises:
            MLCError: the input was refused, which is fine.
        """

    def mutate(self, name: str, content: bytes, random: Random) -> bytes:
        """Damage one file. By default what its name says: JSON, or bytes."""
        return mutate_file(name, content, random)

    def case(self, seed: int, number: int) -> Case:
        """The input of that number: always the same one, whichever process asks.

        Args:
            seed: the campaign's seed.
            number: from 0.
        """
        random = Random(f"{seed}/{self.name}/{number}")
        case = dict(random.choice(self.valid))
        for name in random.sample(sorted(case), min(len(case), random.choice((1, 1, 1, 2)))):
            case[name] = self.mutate(name, case[name], random)
        return case

    @cached_property
    def valid(self) -> list[Case]:
        """What :meth:`seeds` gives, made once."""
        return self.seeds()


def load_subject(path: str) -> Subject:
    """Make a subject.

    Args:
        path: ``module:Class``.
    """
    module, _, name = path.partition(":")
    made: Subject = getattr(import_module(module), name)()
    return made


def path_of(subject: Subject) -> str:
    """What :func:`load_subject` makes it of in another process."""
    return f"{type(subject).__module__}:{type(subject).__qualname__}"
