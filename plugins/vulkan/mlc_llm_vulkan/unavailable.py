"""What is raised where the probe finds that something is missing."""

from __future__ import annotations

from mlc_llm.plugin import Availability


class Unavailable(Exception):
    """Why the device cannot be used, and what to do about it (empty: nothing)."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.availability = Availability(reason=reason, remedy=remedy)
