"""Which weights the kernels read. Nothing here imports TVM, so that devices can ask."""

from __future__ import annotations

from mlc_llm.plugin.scheme import Scheme

CODE_BITS = range(2, 9)
"""Bits of a code that the kernels unpack."""


def has_scheme(scheme: Scheme) -> bool:
    """Whether the kernels that GPUs share read weights that are stored so.

    Args:
        scheme: any zero or a minimum will do, any group, and either layout. Two levels of scales
            will not: shading languages have no bytes.
    """
    return scheme.is_float or (scheme.bits in CODE_BITS and not scheme.has_two_levels)
