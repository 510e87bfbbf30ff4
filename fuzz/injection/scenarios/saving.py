"""Saving a conversation again and again, until the process is stopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from fuzz.child import ROOT
from fuzz.injection.program import Unsound
from fuzz.injection.scenario import Scenario
from fuzz.subjects.demo import demo
from mlc_llm.chat.saving import CACHE_SUFFIX
from mlc_llm.errors import MLCError

_FILE = "chat.json"
_PROGRAM = """
import os, sys
from fuzz.subjects.demo import demo
from mlc_llm.cli.app import show_error
from mlc_llm.errors import MLCError
chat, words = demo(), ("Hello", "What is 1+1?", "And what is a cat? Tell me more of it.")
print("begun", flush=True)
for count in range(int(sys.argv[2])):
    chat.generate(words[count % 3])
    try:
        chat.save(sys.argv[1])
    except MLCError as error:
        show_error(error)
        sys.exit(1)
    if count % 5 == 4:
        chat.reset_chat()
"""


class Saving(Scenario):
    """What is there is one whole conversation. Keys and values of another are never taken."""

    name = "save"
    rounds = 6
    repeats = True

    def command(self, work: Path) -> list[str]:
        return self._saving(work, 10**9)

    def again(self, work: Path) -> list[str]:
        return self._saving(work, 2)

    @staticmethod
    def _saving(work: Path, times: int) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, str(work / _FILE), str(times)]

    def variables(self, work: Path) -> Mapping[str, str]:
        # The library is the same each time, and is compiled once.
        return {**super().variables(work), "MLC_LLM_CACHE": str(ROOT / "build" / "fuzz" / "cache")}

    def check(self, work: Path) -> None:
        for litter in work.glob(".*.tmp"):
            os.utime(litter, (0, 0))  # A young one may be in use, and stays.
        if not (work / _FILE).exists():
            return
        chat = demo()
        try:
            restored = chat.load(work / _FILE)
            cold = chat.render("And?").token_ids
            warm = chat.generate("And?")
        except MLCError as error:
            raise Unsound(f"what was saved cannot be loaded: {error}") from error
        if not restored.tokens and not restored.reason:
            raise Unsound("nothing says why no keys and values were restored")
        (work / (_FILE + CACHE_SUFFIX)).unlink(missing_ok=True)
        chat.reset_chat()
        chat.benchmark_generate("x", 1)  # The cache holds something else now.
        chat.load(work / _FILE)
        if chat.render("And?").token_ids != cold or chat.generate("And?") != warm:
            raise Unsound("the answer after restored keys and values is another")

    def check_done(self, work: Path) -> None:
        names = {path.name for path in work.iterdir() if not path.name.startswith(".cache")}
        if litter := {name for name in names if name.endswith(".tmp")}:
            raise Unsound(f"files were left: {sorted(litter)}")
        self.check(work)


class SavingTwice(Saving):
    """A program that saves a conversation twice and ends, or says why it cannot."""

    name = "save twice"
    rounds = 6
    repeats = False

    def command(self, work: Path) -> list[str]:
        return self.again(work)
