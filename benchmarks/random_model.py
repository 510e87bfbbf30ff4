"""Write a model folder of a named shape with random weights, in MLC's format.

The folder is complete: it also has a tokenizer, in which every byte is a token, and can be chatted
with. What it says makes no sense.

    python -m benchmarks.random_model tinyllama-1.1b build/bench/tinyllama-1.1b-q4f16_1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.byte_tokenizer import BOS, write_tokenizer
from benchmarks.new_folder import new_folder
from benchmarks.shapes import SHAPES, LlamaShape
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.quantization.scheme import QUANTIZATIONS, Scheme, scheme
from mlc_llm.weights.manifest import MANIFEST_FILE
from mlc_llm.weights.shard_writer import ShardWriter

WEIGHT_STD = 0.02
CODE_STD = 4.3
"""Standard deviation of a uniform code between 0 and 14."""


def chat_config(shape: LlamaShape, quantization: str) -> dict[str, Any]:
    """The content of ``mlc-chat-config.json``."""
    config: dict[str, Any] = {
        "model_type": shape.model_type,
        "quantization": quantization,
        "model_config": {
            "hidden_size": shape.hidden,
            "intermediate_size": shape.ffn,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "rms_norm_eps": shape.norm_eps,
            "position_embedding_base": shape.rope_theta,
            "vocab_size": shape.vocab,
            "context_window_size": shape.context,
        },
        "vocab_size": shape.vocab,
        "context_window_size": shape.context,
        "prefill_chunk_size": min(shape.context, 2048),
        "tokenizer_files": ["tokenizer.json"],
        "conv_template": "LM",
        # No token ends an answer, so that each is as long as it is asked to be.
        "bos_token_id": BOS,
    }
    if shape.sliding_window is not None:
        for part in (config, config["model_config"]):
            part["sliding_window_size"] = shape.sliding_window
            part["attention_sink_size"] = 0
    return config


def matrices(shape: LlamaShape) -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of every matrix, in the model's order."""
    attention = shape.heads * shape.head_dim
    fused = attention + 2 * shape.kv_heads * shape.head_dim
    yield "model.embed_tokens", shape.vocab, shape.hidden
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.self_attn.qkv_proj", fused, shape.hidden
        yield f"{prefix}.self_attn.o_proj", shape.hidden, attention
        yield f"{prefix}.mlp.gate_up_proj", 2 * shape.ffn, shape.hidden
        yield f"{prefix}.mlp.down_proj", shape.hidden, shape.ffn
    yield "lm_head", shape.vocab, shape.hidden


def norms(shape: LlamaShape) -> Iterator[str]:
    """Names of the norm weights, all of the hidden size."""
    for layer in range(shape.layers):
        yield f"model.layers.{layer}.input_layernorm.weight"
        yield f"model.layers.{layer}.post_attention_layernorm.weight"
    yield "model.norm.weight"


def random_codes(rng: np.random.Generator, kind: Scheme, rows: int, columns: int) -> np.ndarray:
    """Random 4-bit codes between 0 and 14, packed: uint32 of shape (rows, words)."""
    nibbles = rng.integers(0, 15, (2, rows, kind.words(columns) * 4), dtype=np.uint8)
    packed: np.ndarray = nibbles[0] | nibbles[1] << 4
    return packed.view(np.uint32)


def write_matrix(
    writer: ShardWriter, rng: np.random.Generator, kind: Scheme, name: str, rows: int, columns: int
) -> None:
    """Write a random matrix: its codes and scales, or its values where it is not quantised."""
    if kind.kind == "none":
        values = rng.standard_normal((rows, columns), np.float32) * np.float32(WEIGHT_STD)
        values = values.astype(kind.model_dtype, copy=False)
        writer.add(f"{name}.weight", values.shape, kind.model_dtype, [values])
        return
    codes = random_codes(rng, kind, rows, columns)
    writer.add(f"{name}.q_weight", codes.shape, "uint32", [codes])
    scales = rng.uniform(0.5, 1.5, (rows, kind.groups(columns))) * (WEIGHT_STD / CODE_STD)
    scales = scales.astype(kind.model_dtype)
    writer.add(f"{name}.q_scale", scales.shape, kind.model_dtype, [scales])


def write_tensors(writer: ShardWriter, shape: LlamaShape, kind: Scheme, seed: int) -> None:
    """Write every parameter, one tensor in memory at a time."""
    rng = np.random.default_rng(seed)
    for name, rows, columns in matrices(shape):
        write_matrix(writer, rng, kind, name, rows, columns)
    for name in norms(shape):
        ones = np.ones(shape.hidden, kind.model_dtype)
        writer.add(name, ones.shape, kind.model_dtype, [ones])


def write_random_model(
    shape: LlamaShape, output: Path, quantization: str = "q4f16_1", seed: int = 0
) -> Path:
    """Write the folder and return its path; it appears only when it is complete.

    Args:
        shape: the model's shape.
        output: the folder, which must not exist.
        quantization: 4 bits in groups, or none.
        seed: of the random weights.
    """
    kind = scheme(quantization)
    with new_folder(output) as partial:
        with ShardWriter(partial) as writer:
            write_tensors(writer, shape, kind, seed)
            manifest = writer.finish({"ParamSize": len(list(matrices(shape)))})
        (partial / MANIFEST_FILE).write_bytes(manifest.dump())
        config = json.dumps(chat_config(shape, quantization), indent=2)
        (partial / CHAT_CONFIG_FILE).write_text(config, encoding="utf-8")
        write_tokenizer(partial / "tokenizer.json", shape.vocab)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--quantization", choices=sorted(QUANTIZATIONS), default="q4f16_1")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        write_random_model(
            SHAPES[arguments.shape], arguments.output, arguments.quantization, arguments.seed
        )
    )


if __name__ == "__main__":
    main()
