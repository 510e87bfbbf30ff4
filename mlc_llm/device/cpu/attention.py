"""The CPU's attention kernels."""

from __future__ import annotations

from dataclasses import replace

from mlc_llm.device.cpu.kernels import append, attention
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.plugin import AttentionKernels, AttentionSpec


def attention_kernels(
    spec: AttentionSpec, dtype: str, activation_dtype: str, isa: Isa
) -> AttentionKernels:
    """The kernels of one description, with keys and values in ``dtype``."""
    owns, rotates = spec.keys_of is None, spec.rope is not None
    # How keys were rotated, and whose they are if not the layer's own, is nothing to these.
    attends = replace(spec, keys_of=None if owns else 0, rope=None)
    return AttentionKernels(
        append=append.append(spec, dtype, activation_dtype) if owns else None,
        rotate=append.rotate(spec, activation_dtype) if rotates and not owns else None,
        prefill=attention.prefill(attends, dtype, activation_dtype, isa),
        decode=attention.decode(attends, dtype, activation_dtype, isa),
    )
