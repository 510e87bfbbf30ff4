"""``mlc_llm chat``: an answer that is written until something stops it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fuzz.child import ROOT
from fuzz.injection.program import mlc_llm
from fuzz.injection.scenario import Scenario


class Answering(Scenario):
    """It ends when it is told to, whatever it is doing; it writes nothing but its answer."""

    name = "chat"
    rounds = 12

    def command(self, work: Path) -> list[str]:
        return mlc_llm("chat", "demo", "--device", "cpu", "--prompt", "Tell me a long story.")

    def variables(self, work: Path) -> Mapping[str, str]:
        return {**super().variables(work), "MLC_LLM_CACHE": str(ROOT / "build" / "fuzz" / "cache")}

    def check(self, work: Path) -> None:
        """It has written no file."""

    def check_done(self, work: Path) -> None:
        """Nor then."""
