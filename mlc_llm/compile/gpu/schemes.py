"""Which weights the kernels read. Nothing here imports TVM, so that devices can ask."""

from __future__ import annotations

from mlc_llm.plugin.scheme import Scheme

CODE_BITS = range(2, 9)
"""Bits of a code that the kernels unpack."""

FLOAT_DTYPES = {16: "float16", 32: "float32"}
"""Weights that are stored as floats, by their bits."""


def has_scheme(scheme: Scheme) -> bool:
    """Whether the kernels that GPUs share read weights that are stored so.

    Args:
        scheme: any zero or a minimum will do, and either layout.
    """
    if scheme.is_float:
        return FLOAT_DTYPES.get(scheme.bits) == scheme.dtype
    whole_words = scheme.group > 0 and scheme.group % scheme.codes_per_word == 0
    return scheme.bits in CODE_BITS and scheme.storage == "uint32" and whole_words
