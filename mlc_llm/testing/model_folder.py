"""A small random model, made with NumPy alone: a checkpoint, and a model folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.convert import convert_weight, gen_config
from mlc_llm.files import write_atomically
from mlc_llm.plugin import Plan
from mlc_llm.registry.registry import Registry

Tensors = Mapping[str, npt.NDArray[np.float32]]

SMALL_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 128,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""``config.json`` of the small model. Its sizes are ragged: 176 is not a multiple of 64, and a
head of keys serves two of queries."""

WEIGHT_SPREAD = 0.1
"""Standard deviation of random weights: enough for logits that tell tokens apart."""

SPECIAL_TOKENS = ("<unk>", "<s>", "</s>")
FIRST_BYTE = len(SPECIAL_TOKENS)
"""The token id of the byte 0; the other bytes follow."""


def make_model_folder(
    path: str | Path,
    quantization: str | Plan = "q0f32",
    *,
    seed: int = 0,
    conv_template: str = "LM",
    registry: Registry | None = None,
    **config: Any,
) -> Path:
    """Make a model folder in MLC's format with random weights and a byte tokenizer.

    Args:
        path: the folder to write to.
        quantization: the quantisation's name, such as ``q4f16_1``, or a plan.
        seed: of the random weights.
        conv_template: the conversation template's name.
        registry: where the architecture and the template are looked up.
        **config: fields of ``config.json`` to set, as :func:`make_checkpoint` takes them.

    Returns:
        The folder.

    Raises:
        MLCError: the configuration, the quantisation or the template is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="mlc-llm-checkpoint-") as folder:
        source = make_checkpoint(Path(folder), seed=seed, **config)
        return convert_checkpoint(source, path, quantization, conv_template, registry)


def convert_checkpoint(
    source: Path,
    path: str | Path,
    quantization: str | Plan,
    conv_template: str | None = "LM",
    registry: Registry | None = None,
) -> Path:
    """Convert a checkpoint's weights and write its configuration; returns the model folder."""
    folder = Path(path)
    convert_weight(source, quantization, folder, registry=registry)
    gen_config(source, quantization, conv_template, folder, registry=registry)
    return folder


def make_checkpoint(path: str | Path, *, seed: int = 0, **config: Any) -> Path:
    """Make a checkpoint of Llama's tensors in Hugging Face's layout, with random weights.

    Args:
        path: the folder to write to; made if need be.
        seed: of the random weights.
        **config: fields of ``config.json`` that differ from :data:`SMALL_CONFIG`, ``model_type``
            among them.

    Returns:
        The folder, which holds ``config.json``, ``model.safetensors`` and ``tokenizer.json``.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    data = {**SMALL_CONFIG, **config}
    write_atomically(folder / "config.json", json.dumps(data, indent=2).encode())
    save_tensors(folder / "model.safetensors", _random_llama(data, np.random.default_rng(seed)))
    write_byte_tokenizer(folder / "tokenizer.json", data["vocab_size"])
    return folder


def copy_checkpoint(source: Path, path: Path, tensors: Tensors) -> Path:
    """Copy a checkpoint with other tensors in the place of its own; returns ``path``."""
    shutil.copytree(source, path)
    save_tensors(path / "model.safetensors", tensors)
    return path


def save_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file of float32 tensors."""
    header: dict[str, Any] = {}
    blocks, offset = [], 0
    for name, tensor in tensors.items():
        block = np.ascontiguousarray(tensor, dtype="<f4").tobytes()
        end = offset + len(block)
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        blocks.append(block)
        offset = end
    text = json.dumps(header).encode()
    write_atomically(path, len(text).to_bytes(8, "little") + text + b"".join(blocks))


def llama_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a Llama checkpoint's tensors.

    Args:
        config: its ``config.json``, with all fields of :data:`SMALL_CONFIG`.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    query = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    table = (config["vocab_size"], hidden)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": table}
    for index in range(config["num_hidden_layers"]):
        layer = {
            "input_layernorm": (hidden,),
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (keys, hidden),
            "self_attn.v_proj": (keys, hidden),
            "self_attn.o_proj": (hidden, query),
            "post_attention_layernorm": (hidden,),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
        shapes |= {f"model.layers.{index}.{name}.weight": size for name, size in layer.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = table
    return shapes


def _random_llama(config: Mapping[str, Any], random: np.random.Generator) -> Tensors:
    tensors = {}
    for name, shape in llama_shapes(config).items():
        values = WEIGHT_SPREAD * random.standard_normal(shape, np.float32)
        # Norms are around one, and not one, which would hide a norm that is left out.
        tensors[name] = values + np.float32(1) if len(shape) == 1 else values
    return tensors


def write_byte_tokenizer(path: Path, vocab_size: int) -> None:
    """Write a ``tokenizer.json`` that gives every byte of a text a token of its own.

    Args:
        path: the file.
        vocab_size: how many tokens it has: 0 ``<unk>``, 1 ``<s>``, 2 ``</s>``, 3 to 258 the bytes,
            then fillers that no text encodes to.

    Raises:
        ValueError: ``vocab_size`` is less than 259.
    """
    import tokenizers

    tokens = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))]
    if vocab_size < len(tokens):
        raise ValueError(f"vocab_size is {vocab_size}, and must be at least {len(tokens)}")
    tokens += [f"<filler {index}>" for index in range(vocab_size - len(tokens))]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()]
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    write_atomically(path, tokenizer.to_str().encode())
