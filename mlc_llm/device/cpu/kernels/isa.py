"""What a CPU target offers to the kernels: vector width, registers, dot products of bytes.

The table is all that kernels know of an instruction set. A new one is a new row.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.target import Target
from tvm.target.codegen import llvm_cpu_has_features

from .dot import Dot, FusedDot, PairDot, PlainDot


@dataclass(frozen=True)
class Isa:
    """The part of an instruction set that decides how a kernel is written.

    Args:
        name: a short name for messages and kernel names.
        lanes: float32 lanes of a vector register.
        registers: number of vector registers, which bounds the register tiles.
        dot: how products of codes and 8-bit activations are summed.
        by_lane: whether an instruction takes one lane of a register as an operand for all lanes.
        half: whether an instruction converts vectors of float16.
    """

    name: str
    lanes: int
    registers: int
    dot: Dot
    by_lane: bool = False
    half: bool = True

    @staticmethod
    def of(target: Target) -> Isa:
        """The first entry of the table that every CPU of `target` can run."""
        for features, isa in _TABLE:
            if all(llvm_cpu_has_features(feature, target) for feature in features):
                return isa
        return GENERIC


VNNI512 = Isa("vnni512", lanes=16, registers=32, dot=FusedDot(16, "llvm.x86.avx512.vpdpbusd.512"))
AVX512 = Isa(
    "avx512",
    lanes=16,
    registers=32,
    dot=PairDot(16, "llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
)
AVXVNNI = Isa("avxvnni", lanes=8, registers=16, dot=FusedDot(8, "llvm.x86.avx512.vpdpbusd.256"))
AVX2 = Isa(
    "avx2",
    lanes=8,
    registers=16,
    dot=PairDot(8, "llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
)
SSE = Isa(
    "sse",
    lanes=4,
    registers=16,
    dot=PairDot(4, "llvm.x86.ssse3.pmadd.ub.sw.128", "llvm.x86.sse2.pmadd.wd"),
    half=False,
)
DOTPROD = Isa(
    "dotprod",
    lanes=4,
    registers=32,
    dot=FusedDot(4, "llvm.aarch64.neon.sdot.v4i32.v16i8", signed=True),
    by_lane=True,
)
NEON = Isa("neon", lanes=4, registers=32, dot=PlainDot(4), by_lane=True)
GENERIC = Isa("generic", lanes=4, registers=16, dot=PlainDot(4), half=False)

# The first entry whose LLVM features the target has, every one, is taken.
_TABLE: tuple[tuple[tuple[str, ...], Isa], ...] = (
    (("avx512f", "avx512bw", "avx512vnni", "fma"), VNNI512),
    (("avx512f", "avx512bw", "fma"), AVX512),
    (("avx2", "fma", "avxvnni"), AVXVNNI),
    (("avx2", "fma"), AVX2),
    (("ssse3",), SSE),
    (("neon", "dotprod"), DOTPROD),
    (("neon",), NEON),
)
