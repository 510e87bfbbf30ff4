"""A subject that has every fault that a campaign must find, and inputs that are fine."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from fuzz.subject import Case, Subject
from mlc_llm.errors import ConfigError

FAULTS = ("foreign", "warning", "panic", "message", "memory", "crash", "exit", "hang")


class Planted(Subject):
    """An input says what becomes of it."""

    name = "planted"

    def seeds(self) -> list[Case]:
        return [{"input": b"fine", "other": b""}]

    def case(self, seed: int, number: int) -> Case:
        words = ("fine", "refused", *FAULTS)
        return {"input": words[number % len(words)].encode(), "other": str(number).encode()}

    def feed(self, folder: Path) -> None:
        match word := (folder / "input").read_text():
            case "refused":
                raise ConfigError("It is refused.")
            case "foreign":
                raise KeyError(word)
            case "warning":
                warnings.warn("careless", RuntimeWarning, stacklevel=1)
            case "panic":
                raise BaseException(word)
            case "message":
                raise ConfigError("x" * 100_000)
            case "memory":
                _ = b"x" * (80 << 20)
            case "crash":
                os.abort()
            case "exit":
                os._exit(3)
            case "hang":
                while True:
                    pass


class Refusing(Planted):
    """A subject whose valid input is refused."""

    name = "refusing"

    def feed(self, folder: Path) -> None:
        raise ConfigError("Nothing is right.")


class Numbered(Subject):
    """A subject whose inputs are mutated as most are."""

    name = "numbered"

    def seeds(self) -> list[Case]:
        return [{"a.json": b'{"a": [1, 2, {"b": "text"}], "c": null}', "b.bin": bytes(range(64))}]

    def feed(self, folder: Path) -> None:
        """Everything is accepted."""
