"""The makers of attention's kernels, given what a GPU can do."""

from __future__ import annotations

from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels import append as appending
from mlc_llm.compile.gpu.kernels import attention as attending
from mlc_llm.plugin import AttentionSpec


def append(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """A task for each pair and each element is little work: small workgroups."""
    return appending.append(spec, dtype, activation_dtype, capabilities.light)


def rotate(
    spec: AttentionSpec, _dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """As :func:`append`, without pages."""
    return appending.rotate(spec, activation_dtype, capabilities.light)


def prefill(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """There are many tiles of rows: small workgroups."""
    memory = capabilities.shared_memory
    return attending.prefill(spec, dtype, activation_dtype, capabilities.light, memory)


def decode(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """A workgroup reads all keys of a sequence: more threads."""
    threads, memory = min(128, capabilities.threads), capabilities.shared_memory
    return attending.decode(spec, dtype, activation_dtype, threads, memory)
