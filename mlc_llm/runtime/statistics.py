"""How fast prompts are read and answers written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace


@dataclass
class PhaseMetrics:
    """Tokens and wall-clock seconds of one phase.

    Args:
        tokens: how many tokens went through the model.
        seconds: how long that took.
    """

    tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """The throughput; 0 when nothing was measured."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    def add(self, tokens: int, seconds: float) -> None:
        """Count tokens that took that long."""
        self.tokens += tokens
        self.seconds += seconds

    @contextmanager
    def measure(self) -> Iterator[PhaseMetrics]:
        """Add the time inside the ``with`` block; the block adds its tokens."""
        begin = time.perf_counter()
        try:
            yield self
        finally:
            self.seconds += time.perf_counter() - begin


@dataclass
class Metrics:
    """What was measured since the last reset.

    Args:
        prefill: reading prompts; tokens that were still in the KV cache are not counted.
        decode: writing answers, one token at a time, sampling included. The first token of an
            answer costs no step of its own and is not counted.
        time_to_first_token: seconds from when the model took up the last prompt until the first
            token of its answer was chosen; None when there was none.
    """

    prefill: PhaseMetrics = field(default_factory=PhaseMetrics)
    decode: PhaseMetrics = field(default_factory=PhaseMetrics)
    time_to_first_token: float | None = None

    def reset(self) -> None:
        """Set all measurements back to zero."""
        self.prefill, self.decode = PhaseMetrics(), PhaseMetrics()
        self.time_to_first_token = None

    def snapshot(self) -> Metrics:
        """A copy that does not change any more."""
        return replace(self, prefill=replace(self.prefill), decode=replace(self.decode))

    def summary(self) -> str:
        """Both throughputs, as in ``prefill: 3477.5 tok/s, decode: 153.6 tok/s``."""
        prefill, decode = self.prefill.tokens_per_second, self.decode.tokens_per_second
        return f"prefill: {prefill:.1f} tok/s, decode: {decode:.1f} tok/s"

    def details(self) -> str:
        """Throughput, tokens and seconds of each phase, laid out as MLC LLM lays them out."""
        return "\n".join(
            f"{title}\n"
            f"throughput: {phase.tokens_per_second:.1f} tok/s\n"
            f"total tokens: {phase.tokens} tok\n"
            f"total time: {phase.seconds:.3f} s"
            for title, phase in (
                ("----------- prefill -----------", self.prefill),
                ("------------ decode ------------", self.decode),
            )
        )
