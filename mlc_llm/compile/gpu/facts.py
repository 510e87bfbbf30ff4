"""What the kernels must know of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class GPUFacts:
    """The limits of a GPU that kernels are made for.

    Args:
        threads: most threads of a workgroup.
        shared_memory: bytes of memory that the threads of a workgroup share.
    """

    threads: int = 128
    shared_memory: int = 16384

    @classmethod
    def of(cls, target: Mapping[str, Any]) -> Self:
        """The facts in a TVM target, as a device gives it; Vulkan's least where it says nothing."""
        # Kinds of targets differ in what they call it.
        threads = target.get("max_num_threads", target.get("max_threads_per_block", cls.threads))
        memory = target.get("max_shared_memory_per_block", cls.shared_memory)
        return cls(int(threads), int(memory))

    @property
    def light(self) -> int:
        """Threads of a workgroup where the work is many small pieces."""
        return min(64, self.threads)

    @property
    def wide(self) -> int:
        """Threads of a workgroup where one workgroup has a long piece of work to itself."""
        return min(256, self.threads)
