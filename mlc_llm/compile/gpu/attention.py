"""A GPU's kernels for TVM's paged KV cache."""

from __future__ import annotations

from mlc_llm.compile.gpu.facts import GPUFacts
from mlc_llm.compile.gpu.kernels import attention, kv_cache
from mlc_llm.compile.gpu.kernels.rope import split_rotary
from mlc_llm.compile.rope import inverse_frequencies
from mlc_llm.plugin import AttentionKernels, ModelConfig


def attention_kernels(config: ModelConfig, dtype: str, facts: GPUFacts) -> AttentionKernels:
    """The kernels for a model's geometry, with keys and values in ``dtype``.

    Args:
        config: the model's config.
        dtype: dtype of the KV cache.
        facts: the GPU's limits.
    """
    queries, pairs, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    window = config.sliding_window_size if config.sliding_window_size > 0 else None
    sink = max(0, config.attention_sink_size) if window else 0
    geometry = attention.Geometry(pairs, queries, size, dtype, window, sink)
    frequencies = inverse_frequencies(size, config.position_embedding_base, config.rope_scaling)
    light, memory = facts.light, facts.shared_memory
    cache = (pairs, size, dtype, light)
    return AttentionKernels(
        split_rotary=split_rotary(queries, pairs, size, dtype, frequencies, light),
        transpose_append=kv_cache.transpose_append(*cache),
        prefill_ragged=attention.prefill_ragged(geometry, light, memory),
        prefill=attention.prefill_paged(geometry, light, memory),
        decode=attention.decode(geometry, min(128, facts.threads), memory),
        merge_state=attention.merge_state(queries, size, dtype, light),
        copy_single_page=kv_cache.copy_single_page(*cache),
        debug_get_kv=kv_cache.debug_get_kv(config.num_hidden_layers, *cache),
        compact_kv_copy=kv_cache.compact_kv_copy(*cache),
    )
