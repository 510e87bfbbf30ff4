"""Names of tensors in the GGUF files of decoders that are built as Llama is."""

from __future__ import annotations

from typing import Any

from mlc_llm.model.weights import OrderRows, rotary_halves
from mlc_llm.plugin.gguf import GGUFFamily

_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}

DECODER_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    **{f"blk.*.{theirs}": f"model.layers.*.{ours}" for theirs, ours in _LAYER.items()},
}
"""Names in the checkpoint by those in a file; norms before attention and feed-forward."""


def _queries(config: Any) -> OrderRows:
    return rotary_halves(config.num_attention_heads, config.head_dim)


def _keys(config: Any) -> OrderRows:
    return rotary_halves(config.num_key_value_heads, config.head_dim)


LLAMA_FAMILY = GGUFFamily(
    "llama",
    DECODER_TENSORS,
    # llama.cpp turns pairs 2i and 2i + 1 of this family's heads, and its files are ordered so.
    orders={"blk.*.attn_q": _queries, "blk.*.attn_k": _keys},
    ignored=frozenset({"blk.*.attn_rot_embd"}),
)
"""Llama, and Mistral, whose files say ``llama`` too."""
