"""GPT-2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from mlc_llm.model.gpt2 import GPT_2
from mlc_llm.testing import raises
from mlc_llm.testing.model_folder import copy_checkpoint
from mlc_llm.testing.workbench import Workbench

from .conformance import SIZES, FamilyConformance, Fields
from .gguf_layout import Array, Config, GGUFLayout

SMALL = {
    **dict.fromkeys(SIZES),
    "vocab_size": 320,
    "n_embd": 60,
    "n_head": 3,
    "n_layer": 3,
    "n_positions": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def transposed(values: Array, config: Config) -> Array:
    return values.T if values.ndim == 2 else values


class TestGPT2(FamilyConformance):
    architecture = GPT_2
    layout = "gpt2"
    variants = {
        "tied": SMALL,
        "other scales": {
            **SMALL,
            "n_inner": 100,
            "scale_attn_weights": False,
            "scale_attn_by_inverse_layer_idx": True,
            "activation_function": "gelu",
            "layer_norm_epsilon": 0.1,
            "tie_word_embeddings": False,
        },
    }
    refused = {
        "cross-attention": ({"add_cross_attention": True}, "add_cross_attention"),
        "another activation": ({"activation_function": "quick_gelu"}, "quick_gelu"),
        "ragged heads": ({"n_head": 7}, "must be a multiple of n_head"),
        "a longer window": ({"context_window_size": 257}, "at most n_positions"),
        "a window that slides": ({"sliding_window_size": 64}, "sliding_window_size"),
    }
    gguf = GGUFLayout(
        "gpt2",
        settings={
            "block_count": lambda config: config["n_layer"],
            "context_length": lambda config: config["n_positions"],
            "embedding_length": lambda config: config["n_embd"],
            "feed_forward_length": lambda config: 4 * config["n_embd"],
            "attention.head_count": lambda config: config["n_head"],
            "attention.layer_norm_epsilon": lambda config: config["layer_norm_epsilon"],
        },
        changes=dict.fromkeys(("attn_qkv", "attn_output", "ffn_up", "ffn_down"), transposed),
    )

    def test_tensors_of_older_files(self, checkpoint: Path, workbench: Workbench) -> None:
        """Without a prefix, with causal masks, and with the head beside the table."""
        tensors = load_file(checkpoint / "model.safetensors")
        older = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        masks = {f"h.{layer}.attn.bias": np.tri(8, dtype=np.float32) for layer in range(3)}
        head = {"lm_head.weight": older["wte.weight"]}
        copy = copy_checkpoint(checkpoint, workbench.folder / "older", {**older, **masks, **head})
        folders = [workbench.convert(one, "q0f32", self.architecture) for one in (checkpoint, copy)]
        same, converted = (sorted(folder.glob("params_shard_*.bin")) for folder in folders)
        assert [one.read_bytes() for one in same] == [one.read_bytes() for one in converted]
        other = {**older, "lm_head.weight": older["wte.weight"] + 1}
        copy = copy_checkpoint(checkpoint, workbench.folder / "untied", other)
        with raises("head-not-tied", "lm_head.weight"):
            workbench.convert(copy, "q0f32", self.architecture)

    def test_mlc_leaves_out_the_width(self, data: Fields) -> None:
        assert self.architecture.config({**data, "n_inner": -1}).n_inner == 4 * data["n_embd"]
