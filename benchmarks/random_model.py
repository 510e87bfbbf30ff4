"""Write a model folder of a named shape with random weights, in MLC's format.

The folder is complete: it also has a tokenizer, in which every byte is a token, and can be chatted
with. What it says makes no sense.

    python -m benchmarks.random_model tinyllama-1.1b build/bench/tinyllama-1.1b-q4f16_1
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from benchmarks.shapes import SHAPES, LlamaShape
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.quantization.scheme import Scheme, scheme
from mlc_llm.weights.manifest import MANIFEST_FILE
from mlc_llm.weights.shard_writer import ShardWriter

WEIGHT_STD = 0.02
CODE_STD = 4.3
"""Standard deviation of a uniform code between 0 and 14."""

SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]


def chat_config(shape: LlamaShape, quantization: str) -> dict[str, Any]:
    """The content of ``mlc-chat-config.json``."""
    return {
        "model_type": "llama",
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
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def matrices(shape: LlamaShape) -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of every quantised matrix, in the model's order."""
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


def write_tensors(writer: ShardWriter, shape: LlamaShape, kind: Scheme, seed: int) -> None:
    """Write every parameter, one tensor in memory at a time."""
    rng = np.random.default_rng(seed)
    for name, rows, columns in matrices(shape):
        codes = random_codes(rng, kind, rows, columns)
        writer.add(f"{name}.q_weight", codes.shape, "uint32", [codes])
        scales = rng.uniform(0.5, 1.5, (rows, kind.groups(columns))) * (WEIGHT_STD / CODE_STD)
        scales = scales.astype(kind.model_dtype)
        writer.add(f"{name}.q_scale", scales.shape, kind.model_dtype, [scales])
    for name in norms(shape):
        ones = np.ones(shape.hidden, kind.model_dtype)
        writer.add(name, ones.shape, kind.model_dtype, [ones])


def write_tokenizer(path: Path, vocab: int) -> None:
    """Write a ``tokenizer.json``: three special tokens, a token a byte, fillers."""
    tokens = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"<filler {index}>" for index in range(vocab - len(tokens))]
    model = tokenizers.models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        unk_token="<unk>",
        byte_fallback=True,
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()]
    )
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.save(str(path))


def write_random_model(
    name: str, output: Path, quantization: str = "q4f16_1", seed: int = 0
) -> Path:
    """Write the folder and return its path; it appears only when it is complete.

    Args:
        name: a shape's name in :data:`~benchmarks.shapes.SHAPES`.
        output: the folder, which must not exist.
        quantization: a quantisation with 4 bits.
        seed: of the random weights.
    """
    shape, kind = SHAPES[name], scheme(quantization)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        with ShardWriter(partial) as writer:
            write_tensors(writer, shape, kind, seed)
            manifest = writer.finish({"ParamSize": len(list(matrices(shape)))})
        (partial / MANIFEST_FILE).write_bytes(manifest.dump())
        config = json.dumps(chat_config(shape, quantization), indent=2)
        (partial / CHAT_CONFIG_FILE).write_text(config, encoding="utf-8")
        write_tokenizer(partial / "tokenizer.json", shape.vocab)
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--quantization", choices=["q4f16_1", "q4f32_1"], default="q4f16_1")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(
        write_random_model(
            arguments.shape, arguments.output, arguments.quantization, arguments.seed
        )
    )


if __name__ == "__main__":
    main()
