"""What a prompt that is written down by hand is made of."""

from __future__ import annotations

from typing import NamedTuple

SYSTEM = "Be brief."
USER, ANSWER, AGAIN = "Hello", "Hi there", "Who are you?\n🦙"
TURNS = [
    {"role": "user", "content": USER},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": AGAIN},
]
REASONED = "<think>\nhm\n</think>\n\nHi there"


class Prompt(NamedTuple):
    """A template's prompt.

    Args:
        template: the template's name.
        system: the system message: its text, None for none, or "default" for the template's own.
        turns: how many of ``TURNS``.
        text: what the model's authors make of the messages.
        ours: the prompt here, where it differs.
    """

    template: str
    system: str | None
    turns: int
    text: str | None
    ours: str | None = None

    @property
    def expected(self) -> str:
        """The prompt here."""
        text = self.text if self.ours is None else self.ours
        assert text is not None
        return text


def blocks(begin: str, middle: str, end: str, *messages: tuple[str, str]) -> str:
    """Messages in a layout whose turns all look the same."""
    return "".join(f"{begin}{role}{middle}{text}{end}" for role, text in messages)


def chatml(*messages: tuple[str, str]) -> str:
    """Messages in ChatML."""
    turns = blocks("<|im_start|>", "\n", "<|im_end|>\n", *messages)
    return f"{turns}<|im_start|>assistant\n"


HISTORY = [("user", USER), ("assistant", ANSWER), ("user", AGAIN)]
WITH_SYSTEM = [("system", SYSTEM), *HISTORY]
