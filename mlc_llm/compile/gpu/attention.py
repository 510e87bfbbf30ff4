"""A GPU's kernels for one description of attention."""

from __future__ import annotations

from dataclasses import replace

from mlc_llm.compile.gpu.facts import GPUFacts
from mlc_llm.compile.gpu.kernels.append import append, rotate
from mlc_llm.compile.gpu.kernels.attention import decode, prefill
from mlc_llm.plugin import AttentionKernels, AttentionSpec


def attention_kernels(
    spec: AttentionSpec, dtype: str, activation_dtype: str, facts: GPUFacts
) -> AttentionKernels:
    """The kernels of a description, each shared by the layers for which it is the same.

    Args:
        spec: how a layer attends.
        dtype: dtype of keys and values.
        activation_dtype: dtype of queries and results.
        facts: the GPU's limits.
    """
    # What a kernel does not depend on is the same for all layers.
    own = spec.keys_of is None
    spec = replace(spec, keys_of=None if own else 0)  # of whichever layer the keys are
    stored = replace(spec, scale=1.0, window=None, sink=0, sink_logits=False, soft_cap=None)
    attended = replace(spec, rope=None)
    dtypes, memory = (dtype, activation_dtype), facts.shared_memory
    rotates = not own and spec.rope is not None
    return AttentionKernels(
        append=append(stored, *dtypes, facts.light) if own else None,
        rotate=rotate(stored, activation_dtype, facts.light) if rotates else None,
        prefill=prefill(attended, *dtypes, facts.light, memory),
        decode=decode(attended, *dtypes, min(128, facts.threads), memory),
    )
