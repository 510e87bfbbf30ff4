"""The types that tensors of GGUF files have, and how each is kept."""

from __future__ import annotations

from dataclasses import dataclass

from mlc_llm.plugin import Scheme
from mlc_llm.sources import gguf_blocks as blocks
from mlc_llm.sources.gguf_blocks import Unpack


@dataclass(frozen=True)
class GGUFType:
    """A type of tensors.

    Args:
        name: its name.
        weights: weights in a block.
        nbytes: bytes of a block.
        scheme: how a matrix of it is kept without loss; None where it is not read.
        unpack: takes blocks apart, for types of integer codes.
    """

    name: str
    weights: int
    nbytes: int
    scheme: Scheme | None = None
    unpack: Unpack | None = None

    @property
    def is_read(self) -> bool:
        """Whether tensors of this type can be converted."""
        return self.scheme is not None


def _codes(bits: int, zero: int | None = None, group: int = 32, **more: int) -> Scheme:
    return Scheme(bits, "float16", group, zero, **more)  # type: ignore[arg-type]


_SUPER = 256

TYPES = {
    one.name: one
    for one in (
        GGUFType("F32", 1, 4, Scheme(32, "float32")),
        GGUFType("F16", 1, 2, Scheme(16, "float16")),
        # Of its 8 exponent bits weights need but a few, and float16 has more digits.
        GGUFType("BF16", 1, 2, Scheme(16, "float16")),
        GGUFType("Q4_0", 32, 18, _codes(4, zero=8), blocks.q4_0),
        GGUFType("Q4_1", 32, 20, _codes(4), blocks.q4_1),
        GGUFType("Q5_0", 32, 22, _codes(5, zero=16), blocks.q5_0),
        GGUFType("Q5_1", 32, 24, _codes(5), blocks.q5_1),
        GGUFType("Q8_0", 32, 34, _codes(8, zero=128), blocks.q8_0),
        GGUFType("Q4_K", _SUPER, 144, _codes(4, super_group=_SUPER), blocks.q4_k),
        GGUFType("Q5_K", _SUPER, 176, _codes(5, super_group=_SUPER), blocks.q5_k),
        GGUFType("Q6_K", _SUPER, 210, _codes(6, 32, 16, super_group=_SUPER), blocks.q6_k),
        GGUFType("MXFP4", 32, 17, Scheme(5, "float32", 32, blocks.FP4_ZERO), blocks.mxfp4),
        # Their 16 values are whole numbers of 8 bits: wider than the file has them, and exact.
        GGUFType("IQ4_NL", 32, 18, _codes(8, zero=128), blocks.iq4_nl),
        GGUFType("IQ4_XS", _SUPER, 136, Scheme(8, "float32", 32, 128), blocks.iq4_xs),
        GGUFType("Q8_1", 32, 40),
        GGUFType("Q2_K", _SUPER, 84),
        GGUFType("Q3_K", _SUPER, 110),
        GGUFType("Q8_K", _SUPER, 292),
        GGUFType("IQ2_XXS", _SUPER, 66),
        GGUFType("IQ2_XS", _SUPER, 74),
        GGUFType("IQ3_XXS", _SUPER, 98),
        GGUFType("IQ1_S", _SUPER, 50),
        GGUFType("IQ3_S", _SUPER, 110),
        GGUFType("IQ2_S", _SUPER, 82),
        GGUFType("I8", 1, 1),
        GGUFType("I16", 1, 2),
        GGUFType("I32", 1, 4),
        GGUFType("I64", 1, 8),
        GGUFType("F64", 1, 8),
        GGUFType("IQ1_M", _SUPER, 56),
        GGUFType("TQ1_0", _SUPER, 54),
        GGUFType("TQ2_0", _SUPER, 66),
        GGUFType("NVFP4", 64, 36),
        GGUFType("Q1_0", 128, 18),
    )
}
"""Every type by its name."""

TYPE_NAMES = {
    **dict(enumerate(("F32", "F16", "Q4_0", "Q4_1"))),
    **dict(enumerate(("Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K"), 6)),
    **dict(enumerate(("Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL"), 14)),
    **dict(enumerate(("IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64"), 21)),
    **dict(enumerate(("IQ1_M", "BF16"), 29)),
    **dict(enumerate(("TQ1_0", "TQ2_0"), 34)),
    **dict(enumerate(("MXFP4", "NVFP4", "Q1_0"), 39)),
}
"""The types' names by their numbers in a file. Missing numbers were types once, or never."""
