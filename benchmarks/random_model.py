"""Write a model folder of a named shape with random weights, in MLC's format.

The folder is complete: it also has a tokenizer, in which every byte is a token, and can be chatted
with. What it says makes no sense. Models of Llama's and Mistral's architecture are written as they
are stored; those of others are converted from a random checkpoint.

    python -m benchmarks.random_model tinyllama-1.1b build/bench/tinyllama-1.1b-q4f16_1
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.byte_tokenizer import BOS, write_tokenizer
from benchmarks.new_folder import new_folder
from benchmarks.random_checkpoint import hf_config, write_random_checkpoint
from benchmarks.shapes import SHAPES, ModelShape
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.convert import Sizes, convert_weight
from mlc_llm.convert.window_sizes import WindowSizes
from mlc_llm.plugin import Plan, Scheme
from mlc_llm.plugin.scheme import stored_tensors
from mlc_llm.quantization import PLANS, folder_fields, plan
from mlc_llm.registry.registry import default_registry
from mlc_llm.testing.random_weight import random_tensors
from mlc_llm.weights.manifest import MANIFEST_FILE
from mlc_llm.weights.shard_writer import ShardWriter

WEIGHT_STD = 0.02

WRITTEN = ("llama", "mistral")
"""Architectures whose folders are written here, since checkpoints of large models take long."""


def chat_config(shape: ModelShape, quantization: str | Plan) -> dict[str, Any]:
    """The content of ``mlc-chat-config.json``.

    No token ends an answer, so that each is as long as it is asked to be.
    """
    if shape.model_type in WRITTEN:
        return _llama_config(shape, quantization)
    architecture = default_registry().architecture(shape.model_type)
    model = architecture.config(hf_config(shape))
    windows = WindowSizes.choose(model, Sizes()).fields()
    return {
        "model_type": shape.model_type,
        **folder_fields(_plan(quantization)),
        "model_config": {**model.model_dump(mode="json"), **windows},
        "vocab_size": shape.vocab,
        **windows,
        "tokenizer_files": ["tokenizer.json"],
        "conv_template": "LM",
        "bos_token_id": BOS,
    }


def _llama_config(shape: ModelShape, quantization: str | Plan) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": shape.model_type,
        **folder_fields(_plan(quantization)),
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
        "bos_token_id": BOS,
    }
    if shape.sliding_window is not None:
        for part in (config, config["model_config"]):
            part["sliding_window_size"] = shape.sliding_window
            part["attention_sink_size"] = 0
    return config


def _plan(quantization: str | Plan) -> Plan:
    return plan(quantization) if isinstance(quantization, str) else quantization


def matrices(shape: ModelShape) -> Iterator[tuple[str, int, int]]:
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


def norms(shape: ModelShape) -> Iterator[str]:
    """Names of the norm weights, all of the hidden size."""
    for layer in range(shape.layers):
        yield f"model.layers.{layer}.input_layernorm.weight"
        yield f"model.layers.{layer}.post_attention_layernorm.weight"
    yield "model.norm.weight"


def write_matrix(
    writer: ShardWriter,
    rng: np.random.Generator,
    scheme: Scheme,
    name: str,
    rows: int,
    columns: int,
) -> None:
    """Write a random matrix as a scheme stores it."""
    declared = stored_tensors(f"{name}.weight", ((rows, scheme),), columns)
    values = random_tensors(rng, rows, columns, scheme, WEIGHT_STD)
    for tensor, array in zip(declared, values, strict=True):
        writer.add(tensor.name, array.shape, tensor.dtype, [array])


def write_tensors(writer: ShardWriter, shape: ModelShape, plan: Plan, seed: int) -> None:
    """Write every parameter, one tensor in memory at a time."""
    rng = np.random.default_rng(seed)
    for name, rows, columns in matrices(shape):
        [scheme] = plan.schemes(f"{name}.weight", embedding=name == "model.embed_tokens")
        write_matrix(writer, rng, scheme, name, rows, columns)
    for name in norms(shape):
        ones = np.ones(shape.hidden, plan.dtype)
        writer.add(name, ones.shape, plan.dtype, [ones])


def _write_weights(folder: Path, shape: ModelShape, plan: Plan, seed: int) -> None:
    """Write the weights of a model of Llama's architecture, and their manifest."""
    with ShardWriter(folder) as writer:
        write_tensors(writer, shape, plan, seed)
        manifest = writer.finish({"ParamSize": len(list(matrices(shape)))})
    (folder / MANIFEST_FILE).write_bytes(manifest.dump())


def write_random_model(
    shape: ModelShape, output: Path, quantization: str | Plan = "q4f16_1", seed: int = 0
) -> Path:
    """Write the folder and return its path; it appears only when it is complete.

    Args:
        shape: the model's shape.
        output: the folder, which must not exist.
        quantization: the quantisation's name, or a plan without exceptions for parts of weights.
        seed: of the random weights.
    """
    with new_folder(output) as partial:
        if shape.model_type in WRITTEN:
            _write_weights(partial, shape, _plan(quantization), seed)
        else:
            with tempfile.TemporaryDirectory(dir=output.parent) as folder:
                source = write_random_checkpoint(shape, Path(folder) / "checkpoint", seed)
                convert_weight(source, quantization, partial)
        config = json.dumps(chat_config(shape, quantization), indent=2)
        (partial / CHAT_CONFIG_FILE).write_text(config, encoding="utf-8")
        write_tokenizer(partial / "tokenizer.json", shape.vocab)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--quantization", choices=sorted(PLANS), default="q4f16_1")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        write_random_model(
            SHAPES[arguments.shape], arguments.output, arguments.quantization, arguments.seed
        )
    )


if __name__ == "__main__":
    main()
