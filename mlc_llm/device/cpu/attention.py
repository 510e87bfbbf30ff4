"""The CPU's kernels for TVM's paged KV cache."""

from __future__ import annotations

from mlc_llm.compile.rope import inverse_frequencies
from mlc_llm.device.cpu.kernels import attention, kv_cache
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.rope import split_rotary
from mlc_llm.plugin import AttentionKernels, ModelConfig


def attention_kernels(config: ModelConfig, dtype: str, isa: Isa) -> AttentionKernels:
    """The kernels for a model's geometry, with keys and values in ``dtype``."""
    queries, pairs, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    shape = (pairs, queries, size, dtype)
    window = config.sliding_window_size if config.sliding_window_size > 0 else None
    visible = {"isa": isa, "window": window, "sink": max(0, config.attention_sink_size)}
    frequencies = inverse_frequencies(size, config.position_embedding_base, config.rope_scaling)
    return AttentionKernels(
        split_rotary=split_rotary(queries, pairs, size, dtype, frequencies),
        transpose_append=kv_cache.transpose_append(pairs, size, dtype),
        prefill_ragged=attention.prefill_ragged(*shape, **visible),
        prefill=attention.prefill_paged(*shape, **visible),
        decode=attention.decode(*shape, **visible),
        merge_state=attention.merge_state(queries, size, dtype),
        copy_single_page=kv_cache.copy_single_page(pairs, size, dtype),
        debug_get_kv=kv_cache.debug_get_kv(config.num_hidden_layers, pairs, size, dtype),
        compact_kv_copy=kv_cache.compact_kv_copy(pairs, size, dtype),
    )
