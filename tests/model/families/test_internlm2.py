"""InternLM 2 and 2.5, which transformers does not have: Llama with the same weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from mlc_llm.model.internlm2 import INTERNLM2

from .conformance import SIZES, FamilyConformance, Fields, TransformersModel, make_random

NAMES = {
    "model.embed_tokens": "model.tok_embeddings",
    "lm_head": "output",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.up_proj": "feed_forward.w3",
    "mlp.down_proj": "feed_forward.w2",
}
"""Names in InternLM 2's checkpoints by Llama's."""


class TestInternLM2(FamilyConformance):
    architecture = INTERNLM2
    layout = "internlm2"
    variants = {
        "biases": {"bias": True, "rope_theta": 1e6},
        "none": {
            "bias": False,
            "num_key_value_heads": 4,
            "rope_scaling": {"type": "dynamic", "factor": 2.0},
            "tie_word_embeddings": True,
        },
    }
    refused = {"another activation": ({"hidden_act": "tanh"}, "activation")}

    def make(self, path: Path, fields: Fields) -> None:
        """Llama's checkpoint in a folder of this one, and its weights as InternLM 2 has them."""
        renamed = {{"bias": "attention_bias"}.get(name, name): fields[name] for name in fields}
        make_random(path / "llama", "llama", renamed)
        shutil.copy(path / "llama" / "tokenizer.json", path)
        config = {**fields, "model_type": "internlm2", "hidden_act": "silu"}
        (path / "config.json").write_text(json.dumps(config))
        tensors = load_file(path / "llama" / "model.safetensors")
        for name in [name for name in tensors if ".q_proj." in name]:
            parts = [tensors.pop(name.replace("q_proj", f"{one}_proj")) for one in "qkv"]
            heads = fields["num_key_value_heads"]
            grouped = [part.reshape(heads, -1, *part.shape[1:]) for part in parts]
            together = np.concatenate(grouped, axis=1)
            new = name.replace("self_attn.q_proj", "attention.wqkv")
            tensors[new] = together.reshape(-1, *together.shape[2:])
        for name in list(tensors):
            new = name
            for theirs, ours in NAMES.items():
                new = new.replace(theirs, ours)
            tensors[new] = tensors.pop(name)
        save_file(tensors, path / "model.safetensors")

    def transformers_model(self, checkpoint: Path) -> TransformersModel:
        return TransformersModel(checkpoint / "llama")

    def test_config_without_what_has_a_default(self) -> None:
        config = INTERNLM2.config(SIZES)
        assert config.bias
        assert config == INTERNLM2.config({**SIZES, "bias": True, "rope_theta": 10000})
