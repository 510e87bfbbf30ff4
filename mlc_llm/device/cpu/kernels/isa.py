"""What a CPU target offers to the kernels: vector width, registers, int8 dot products."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target
from tvm.target.codegen import llvm_cpu_has_features


@dataclass(frozen=True)
class Isa:
    """The part of an instruction set that decides how a kernel is written.

    Args:
        name: a short name for messages and kernel names.
        lanes: float32 lanes of a vector register.
        registers: number of vector registers, which bounds the register tiles.
        vnni512: whether `vpdpbusd` works on 512-bit registers (AVX512-VNNI and AVX512-BW).
    """

    name: str
    lanes: int
    registers: int
    vnni512: bool = False

    @staticmethod
    def of(target: Target) -> Isa:
        """The widest entry of the table that every CPU of `target` can run."""
        for features, isa in _TABLE:
            if all(llvm_cpu_has_features(feature, target) for feature in features):
                return isa
        return GENERIC


VNNI512 = Isa("vnni512", lanes=16, registers=32, vnni512=True)
AVX512 = Isa("avx512", lanes=16, registers=32)
AVX2 = Isa("avx2", lanes=8, registers=16)
NEON = Isa("neon", lanes=4, registers=32)
GENERIC = Isa("generic", lanes=4, registers=16)

# The first entry whose LLVM features the target has, every one, is taken.
_TABLE: tuple[tuple[tuple[str, ...], Isa], ...] = (
    (("avx512f", "avx512bw", "avx512vnni", "fma"), VNNI512),
    (("avx512f", "fma"), AVX512),
    (("avx2", "fma"), AVX2),
    (("neon",), NEON),
)
