"""The rows of the comparison's table: what each asks of every side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

PHASES = ("prefill", "decode")

STEPS = 48
"""Tokens of a decode, unless a row says otherwise."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        phase: reading a prompt, or generating after one.
        prompt: tokens of the prompt.
        steps: tokens that are generated after it; 0 for a prefill.
    """

    phase: Literal["prefill", "decode"]
    prompt: int
    steps: int = 0

    @classmethod
    def parse(cls, text: str, steps: int = STEPS) -> Self:
        """Read ``prefill:128`` or ``decode:1024``.

        Args:
            text: the phase and the length of its prompt.
            steps: tokens of a decode.

        Raises:
            ValueError: the text is neither.
        """
        phase, _, length = text.partition(":")
        if phase not in PHASES or not length.isdecimal() or int(length) < 1:
            raise ValueError(f"a row is prefill:LENGTH or decode:CONTEXT, not {text!r}")
        if phase == "prefill":
            return cls("prefill", int(length))
        return cls("decode", int(length), steps)

    @property
    def label(self) -> str:
        return f"prefill {self.prompt}" if self.phase == "prefill" else f"decode at {self.prompt}"

    @property
    def tokens(self) -> int:
        """The tokens that its time is divided by."""
        return self.prompt if self.phase == "prefill" else self.steps

    @property
    def room(self) -> int:
        """Tokens that the KV cache must hold."""
        return self.prompt + self.steps + 1

    def request(self, attempt: int) -> dict[str, Any]:
        """What a side is asked.

        Args:
            attempt: counts the measurements of a row. Each prefill gets a prompt of its own, so
                that no side finds it in a cache; a decode keeps its prompt.
        """
        request: dict[str, Any] = {"measure": self.phase, "tokens": self.prompt}
        if self.phase == "prefill":
            return {**request, "variant": 1 + attempt % 60}
        return {**request, "variant": 0, "steps": self.steps}


ROWS: dict[tuple[str, str], tuple[str, ...]] = {
    ("tinyllama-1.1b", "q4"): (
        "decode:16",
        "decode:1024",
        "decode:4096",
        "prefill:128",
        "prefill:512",
        "prefill:2048",
    ),
    ("smollm2-135m", "q4"): ("decode:16", "decode:1024", "prefill:128"),
    ("tinyllama-1.1b", "gguf"): ("decode:16", "decode:1024", "prefill:128", "prefill:512"),
    ("smollm2-135m", "gguf"): ("decode:16", "decode:1024", "prefill:128", "prefill:512"),
    ("qwen3-0.6b", "q4"): (
        "decode:16",
        "decode:1024",
        "decode:4096",
        "prefill:128",
        "prefill:512",
    ),
    ("gemma3-1b", "q4"): (
        "decode:16",
        "decode:1024",
        "decode:4096",
        "prefill:128",
        "prefill:512",
    ),
    ("llama-2-7b", "q4"): ("decode:256", "prefill:128"),
    ("mistral-7b-v0.1", "q4"): ("decode:256", "prefill:128"),
}
"""The rows by shape and kind of weights."""

OTHER_ROWS = ("decode:16", "prefill:128")
"""The rows of every other pair."""


def default_rows(shape: str, weights: str) -> tuple[str, ...]:
    """The rows that a shape is measured in unless the user names others."""
    return ROWS.get((shape, weights), OTHER_ROWS)
