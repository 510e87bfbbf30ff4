"""Small GGUF files of every type, with random weights; written by the gguf package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

HALVES = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "MXFP4": (),
    "IQ4_NL": (0,),
    "IQ4_XS": (0,),
}
"""Types of integer codes that are read, and where a block has a float16."""
FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": np.float32}

VOCABULARY = 300
HIDDEN, FFN, HEADS, KV_HEADS = 256, 512, 8, 4


def random_blocks(kind: str, rows: int, columns: int, seed: int = 0, spread: float = 0.02) -> Array:
    """Random bytes that are rows of a type (rows, bytes), with scales of a usual size."""
    random = np.random.default_rng([seed, rows, columns])
    weights, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = random.integers(0, 256, (rows * columns // weights, nbytes), np.uint8)
    for at in HALVES[kind]:
        values = random.normal(0, spread, len(blocks)).astype("<f2")
        blocks[:, at : at + 2] = values.view(np.uint8).reshape(-1, 2)
    if kind == "MXFP4":
        blocks[:, 0] = random.integers(115, 123, len(blocks))
    return blocks.reshape(rows, -1)


def random_matrix(kind: str, rows: int, columns: int, seed: int = 0, spread: float = 0.02) -> Array:
    """A random matrix of a type, as a writer takes it."""
    if kind in HALVES:
        return random_blocks(kind, rows, columns, seed, spread)
    values = np.random.default_rng([seed, rows, columns]).normal(0, spread, (rows, columns))
    if kind == "BF16":
        return gguf.quants.quantize(values.astype(np.float32), gguf.GGMLQuantizationType.BF16)
    return values.astype(FLOATS[kind])


def values_of(stored: Array, kind: str) -> Array:
    """What the gguf package reads in such a matrix."""
    if kind in ("F32", "F16"):
        return stored.astype(np.float32)
    with np.errstate(over="ignore"):
        found: Array = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType[kind])
    return found


def write_file(
    path: Path,
    tensors: Mapping[str, tuple[str, Array]],
    metadata: Mapping[str, Any] | None = None,
    architecture: str = "llama",
    **options: Any,
) -> Path:
    """Write a file of tensors, each with its type, and settings."""
    writer = gguf.GGUFWriter(path, architecture, **options)
    for key, value in (metadata or {}).items():
        _add(writer, key, value)
    for name, (kind, stored) in tensors.items():
        writer.add_tensor(name, stored, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        add[type(value)](key, value)


def llama_shapes(layers: int = 2, *, tied: bool = False) -> dict[str, tuple[int, ...]]:
    """The tensors of a small Llama by the names in a GGUF file."""
    head = HIDDEN // HEADS
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, HIDDEN)}
    for layer in (f"blk.{index}" for index in range(layers)):
        shapes |= {
            f"{layer}.attn_norm.weight": (HIDDEN,),
            f"{layer}.attn_q.weight": (HEADS * head, HIDDEN),
            f"{layer}.attn_k.weight": (KV_HEADS * head, HIDDEN),
            f"{layer}.attn_v.weight": (KV_HEADS * head, HIDDEN),
            f"{layer}.attn_output.weight": (HIDDEN, HIDDEN),
            f"{layer}.ffn_norm.weight": (HIDDEN,),
            f"{layer}.ffn_gate.weight": (FFN, HIDDEN),
            f"{layer}.ffn_up.weight": (FFN, HIDDEN),
            f"{layer}.ffn_down.weight": (HIDDEN, FFN),
        }
    shapes["output_norm.weight"] = (HIDDEN,)
    return shapes if tied else {**shapes, "output.weight": (VOCABULARY, HIDDEN)}


def llama_tensors(
    kinds: Mapping[str, str] | str, layers: int = 2, *, tied: bool = False
) -> dict[str, tuple[str, Array]]:
    """Random tensors of a small Llama.

    Args:
        kinds: the type of all matrices; or types by the part of a name that they are for, of which
            the first fits that is in the name.
        layers: how many.
        tied: whether there is no head.
    """
    chosen = {"": kinds} if isinstance(kinds, str) else kinds
    tensors = {}
    for seed, (name, shape) in enumerate(llama_shapes(layers, tied=tied).items()):
        if len(shape) == 1:
            noise = np.random.default_rng(seed).normal(1, 0.1, shape)
            tensors[name] = ("F32", noise.astype(np.float16).astype(np.float32))
        else:
            kind = next(kind for part, kind in chosen.items() if part in name)
            tensors[name] = (kind, random_matrix(kind, *shape, seed=seed, spread=SPREAD[kind]))
    return tensors


SPREAD = {
    **dict.fromkeys(FLOATS, 0.05),
    "Q4_0": 0.01,
    "Q4_1": 0.01,
    "Q5_0": 0.005,
    "Q5_1": 0.005,
    "Q8_0": 0.001,
    "Q4_K": 0.0002,
    "Q5_K": 0.0001,
    "Q6_K": 0.00003,
    "MXFP4": 0.0,
    "IQ4_NL": 0.001,
    "IQ4_XS": 0.00005,
}
"""Scales for which the weights have a usual size."""


def llama_metadata(layers: int = 2, **more: Any) -> dict[str, Any]:
    """The settings of a small Llama, with a tokenizer of bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [f"tok{index}" for index in range(VOCABULARY - len(tokens))]
    return {
        "llama.block_count": layers,
        "llama.context_length": 256,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FFN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 10000.0,
        "llama.rope.dimension_count": HIDDEN // HEADS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(index) for index in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": "{{ messages[0]['content'] }}",
        **more,
    }


def write_llama(
    path: Path, kinds: Mapping[str, str] | str, layers: int = 2, *, tied: bool = False, **more: Any
) -> Path:
    """Write a small Llama with random weights; ``more`` are settings with ``__`` for dots."""
    settings = {key.replace("__", "."): value for key, value in more.items()}
    metadata = llama_metadata(layers) | settings
    return write_file(path, llama_tensors(kinds, layers, tied=tied), metadata)


def llama_values(tensors: Mapping[str, tuple[str, Array]]) -> dict[str, Array]:
    """The weights of a small Llama under Hugging Face's names, in Hugging Face's order of rows.

    The order is undone as transformers does it, and not as the package under test.
    """
    heads = {"attn_q": HEADS, "attn_k": KV_HEADS}
    ours = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "token_embd": "model.embed_tokens",
        "output_norm": "model.norm",
        "output": "lm_head",
    }
    found = {}
    for name, (kind, stored) in tensors.items():
        values = values_of(stored, kind)
        *layer, part, _ = name.split(".")
        if part in heads:
            count = heads[part]
            pairs = values.reshape(count, len(values) // count // 2, 2, -1)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        prefix = f"model.layers.{layer[1]}." if layer else ""
        found[f"{prefix}{ours[part]}.weight"] = values
    return found
