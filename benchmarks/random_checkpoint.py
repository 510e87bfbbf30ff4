"""Write a Hugging Face checkpoint of a named shape with random float16 weights.

It is what other projects' exporters start from. Needs numpy, safetensors and tokenizers.

    python -m benchmarks.random_checkpoint tinyllama-1.1b build/bench/tinyllama-1.1b-hf
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.byte_tokenizer import BOS, EOS, SPECIAL_TOKENS, write_tokenizer
from benchmarks.families import FAMILIES
from benchmarks.new_folder import new_folder
from benchmarks.shapes import SHAPES, ModelShape

WEIGHT_STD = 0.02

INDEX_FILE = "model.safetensors.index.json"


def hf_config(shape: ModelShape, dtype: str = "float16") -> dict[str, Any]:
    """The content of ``config.json``."""
    family = FAMILIES[shape.model_type]
    config: dict[str, Any] = {
        "architectures": [family.model_class],
        "model_type": shape.model_type,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": shape.tied,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": dtype,
        **family.config,
    }
    if shape.sliding_window is not None:
        config["sliding_window"] = shape.sliding_window
    return config


def layer_tensors(shape: ModelShape, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of a decoder layer; norms have one dimension."""
    prefix = f"model.layers.{layer}"
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield f"{prefix}.self_attn.q_proj.weight", (query, shape.hidden)
    yield f"{prefix}.self_attn.k_proj.weight", (key, shape.hidden)
    yield f"{prefix}.self_attn.v_proj.weight", (key, shape.hidden)
    yield f"{prefix}.self_attn.o_proj.weight", (shape.hidden, query)
    yield f"{prefix}.mlp.gate_proj.weight", (shape.ffn, shape.hidden)
    yield f"{prefix}.mlp.up_proj.weight", (shape.ffn, shape.hidden)
    yield f"{prefix}.mlp.down_proj.weight", (shape.hidden, shape.ffn)
    for norm in FAMILIES[shape.model_type].norms:
        size = shape.head_dim if norm.of_head else shape.hidden
        yield f"{prefix}.{norm.checkpoint}.weight", (size,)


def shards(shape: ModelShape) -> Iterator[list[tuple[str, tuple[int, ...]]]]:
    """Names and shapes of the tensors of each file: one a layer, two for what is around them."""
    yield [("model.embed_tokens.weight", (shape.vocab, shape.hidden))]
    for layer in range(shape.layers):
        yield list(layer_tensors(shape, layer))
    head = [] if shape.tied else [("lm_head.weight", (shape.vocab, shape.hidden))]
    yield [("model.norm.weight", (shape.hidden,)), *head]


def random_tensor(rng: np.random.Generator, size: tuple[int, ...], norm: float) -> np.ndarray:
    """The same number everywhere for a norm, uniform weights around zero for a matrix: float16."""
    if len(size) == 1:
        return np.full(size, norm, np.float16)
    weights = rng.random(size, dtype=np.float32)
    weights -= 0.5
    # A uniform number between -0.5 and 0.5 has a variance of 1/12.
    weights *= WEIGHT_STD * np.sqrt(np.float32(12))
    return weights.astype(np.float16)


def write_weights(folder: Path, shape: ModelShape, seed: int) -> None:
    """Write the shards, one in memory at a time, and their index."""
    rng = np.random.default_rng(seed)
    norm = FAMILIES[shape.model_type].norm
    files: dict[str, str] = {}
    for number, shard in enumerate(shards(shape)):
        file = f"model-{number:05}.safetensors"
        tensors = {name: random_tensor(rng, size, norm) for name, size in shard}
        save_file(tensors, folder / file, {"format": "pt"})
        files.update(dict.fromkeys(tensors, file))
    index = {"metadata": {"total_size": 2 * shape.parameters}, "weight_map": files}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2), encoding="utf-8")


def write_random_checkpoint(shape: ModelShape, output: Path, seed: int = 0) -> Path:
    """Write the checkpoint and return its path; it appears only when it is complete.

    Args:
        shape: the model's shape.
        output: the folder, which must not exist.
        seed: of the random weights.
    """
    with new_folder(output) as partial:
        write_weights(partial, shape, seed)
        (partial / "config.json").write_text(json.dumps(hf_config(shape), indent=2))
        write_tokenizer(partial / "tokenizer.json", shape.vocab)
        names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL_TOKENS, strict=True))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
        (partial / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(write_random_checkpoint(SHAPES[arguments.shape], arguments.output, arguments.seed))


if __name__ == "__main__":
    main()
