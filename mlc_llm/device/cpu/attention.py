"""The CPU's attention kernels."""

from __future__ import annotations

from mlc_llm.compile.attention_kernels import attention_kernels
from mlc_llm.device.cpu.kernels import append, attention
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.plugin import AttentionKernels, AttentionSpec


def cpu_attention_kernels(
    spec: AttentionSpec, dtype: str, activation_dtype: str, isa: Isa
) -> AttentionKernels:
    """The kernels of one description, with keys and values in ``dtype``."""
    return attention_kernels(
        spec,
        append=lambda one: append.append(one, dtype, activation_dtype),
        rotate=lambda one: append.rotate(one, activation_dtype),
        prefill=lambda one: attention.prefill(one, dtype, activation_dtype, isa),
        decode=lambda one: attention.decode(one, dtype, activation_dtype, isa),
    )
