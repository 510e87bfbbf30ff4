"""What a GPU can do, as far as kernels depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class GPUCapabilities:
    """What kernels may use of a GPU. Each default is what every GPU has.

    The kernels here use the first two. The others are for the kernels of a backend; what a TVM
    target does not say of them, the backend's codegen adds with ``dataclasses.replace``.

    Args:
        threads: most threads of a workgroup.
        shared_memory: bytes of memory that the threads of a workgroup share.
        subgroup_width: threads that run in step and can pass values to each other; None where
            kernels must not count on it.
        matrix_instructions: names of the instructions that multiply small matrices, such as
            ``m16n8k16``, in the backend's own words.
        vector_bytes: bytes that a thread can load at once.
        float16_sums: whether sums in float16 are faster than in float32, and wanted.
    """

    threads: int = 128
    shared_memory: int = 16384
    subgroup_width: int | None = None
    matrix_instructions: tuple[str, ...] = ()
    vector_bytes: int = 4
    float16_sums: bool = False

    @classmethod
    def of(cls, target: Mapping[str, Any]) -> Self:
        """What a TVM target says, as a device gives it, and the defaults for the rest."""
        # Kinds of targets differ in what they call it.
        threads = target.get("max_num_threads", target.get("max_threads_per_block", cls.threads))
        memory = target.get("max_shared_memory_per_block", cls.shared_memory)
        return cls(int(threads), int(memory), _subgroup_width(target))

    @property
    def light(self) -> int:
        """Threads of a workgroup where the work is many small pieces."""
        return min(64, self.threads)

    @property
    def wide(self) -> int:
        """Threads of a workgroup where one workgroup has a long piece of work to itself."""
        return min(256, self.threads)


def _subgroup_width(target: Mapping[str, Any]) -> int | None:
    """TVM says 1 where it does not know, and WGSL has subgroups only as an extension."""
    width = int(target.get("thread_warp_size", 1))
    has_them = target.get("kind") != "webgpu" or target.get("supports_subgroups", False)
    return width if width > 1 and has_them else None
