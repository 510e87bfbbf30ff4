"""Ending an answer at a stop string, without ever showing a part of one."""

from __future__ import annotations

from collections.abc import Iterable

from mlc_llm.errors import ConfigError


class StopText:
    """Passes text through until a stop string is complete.

    Text that may be the beginning of a stop string is held back until it is certain. Of several
    stop strings the one that is complete first ends the text, the longest of those that end
    together; so the text shown does not depend on how it arrives in pieces.

    Args:
        stop_strings: the strings that end the text; none lets everything pass.

    Attributes:
        matched: the stop string that was met, or None.

    Raises:
        ConfigError: a stop string is empty.
    """

    def __init__(self, stop_strings: Iterable[str] = ()) -> None:
        self._stops = tuple(dict.fromkeys(stop_strings))
        if "" in self._stops:
            raise ConfigError("A stop string is empty; every text would end at once.")
        self._held = ""
        self.matched: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met; nothing is shown after it."""
        return self.matched is not None

    def push(self, delta: str) -> str:
        """Take new text and return what is certain to be shown."""
        if self.stopped:
            return ""
        text = self._held + delta
        ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in self._stops]
        found = [end for end in ends if end[0] + end[1] >= 0]
        if found:
            end, negative_length, self.matched = min(found)
            self._held = ""
            return text[: end + negative_length]
        certain = len(text) - max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """Return the text still held back: the end came before a stop string was complete."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` that is a beginning, not the whole, of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
