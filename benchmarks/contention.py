"""How much of the CPU others used while something was measured (Linux; elsewhere not known)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Usage:
    """CPU seconds until now: of the whole machine, of its idle time, and of one process."""

    total: float
    idle: float
    own: float

    @classmethod
    def of(cls, process: int) -> Self | None:
        """Read the counters, or None where the system has none."""
        try:
            tick = os.sysconf("SC_CLK_TCK")
            machine = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
            # The command's name, in parentheses, may hold spaces; utime and stime are the
            # 12th and 13th fields after it.
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError, AttributeError):
            return None
        times = [int(field) / tick for field in machine]
        return cls(sum(times), times[3] + times[4], (int(fields[11]) + int(fields[12])) / tick)

    def others_since(self, before: Usage) -> float:
        """The share of the machine's CPU time that other processes used since ``before``."""
        total = self.total - before.total
        busy = total - (self.idle - before.idle)
        return max(0.0, busy - (self.own - before.own)) / total if total > 0 else 0.0
