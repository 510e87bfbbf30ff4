"""How fast prompts are read and answers written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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
        decode: writing answers, one token at a time, sampling included.
    """

    prefill: PhaseMetrics = field(default_factory=PhaseMetrics)
    decode: PhaseMetrics = field(default_factory=PhaseMetrics)

    def summary(self) -> str:
        """Both throughputs, as in ``prefill: 3477.5 tok/s, decode: 153.6 tok/s``."""
        prefill, decode = self.prefill.tokens_per_second, self.decode.tokens_per_second
        return f"prefill: {prefill:.1f} tok/s, decode: {decode:.1f} tok/s"

    def details(self) -> str:
        """A line for each phase: throughput, tokens and seconds."""
        return "\n".join(
            f"{name}: {phase.tokens_per_second:.1f} tok/s, {phase.tokens} tokens, "
            f"{phase.seconds:.3f} s"
            for name, phase in (("prefill", self.prefill), ("decode", self.decode))
        )
