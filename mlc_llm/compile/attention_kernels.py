"""The attention kernels of a description, each made of the part of it that it depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tvm.tirx import PrimFunc

from mlc_llm.plugin import AttentionKernels, AttentionSpec

Make = Callable[[AttentionSpec], PrimFunc]
"""Makes a kernel of a description."""


def attention_kernels(
    spec: AttentionSpec, *, append: Make, rotate: Make, prefill: Make, decode: Make
) -> AttentionKernels:
    """The kernels that a layer needs.

    What a kernel does not depend on is the same in all descriptions that its maker is given, so
    layers that differ in nothing else share the kernel.

    Args:
        spec: how the layer attends.
        append, rotate, prefill, decode: make the kernels of `AttentionKernels`.
    """
    owns = spec.keys_of is None
    spec = replace(spec, keys_of=None if owns else 0)  # of whichever layer the keys are
    stored = replace(spec, scale=1.0, window=None, sink=0, sink_logits=False, soft_cap=None)
    attended = replace(spec, rope=None)
    return AttentionKernels(
        append=append(stored) if owns else None,
        rotate=rotate(stored) if spec.rope is not None and not owns else None,
        prefill=prefill(attended),
        decode=decode(attended),
    )
