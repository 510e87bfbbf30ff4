"""Write a GGUF file of a named shape with random weights, every matrix in one type.

Needs the ``gguf`` package. For Q4_0 ``llama-quantize`` would keep the output matrix in Q6_K, which
is slower to read; here it is Q4_0 too, so the comparison leans towards llama.cpp.

    python -m benchmarks.random_gguf tinyllama-1.1b build/bench/tinyllama-1.1b.gguf
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from benchmarks.shapes import SHAPES, LlamaShape

BLOCK = 32
"""Weights in one Q4_0 block: a float16 scale, then 16 bytes of two 4-bit codes each."""

BLOCK_BYTES = 18
WEIGHT_STD = 0.02
CODE_STD = 4.6
"""Standard deviation of a uniform 4-bit code."""


def matrices(shape: LlamaShape) -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of every quantised matrix, in the file's order."""
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "token_embd.weight", shape.vocab, shape.hidden
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_q.weight", query, shape.hidden
        yield f"{block}.attn_k.weight", key, shape.hidden
        yield f"{block}.attn_v.weight", key, shape.hidden
        yield f"{block}.attn_output.weight", shape.hidden, query
        yield f"{block}.ffn_gate.weight", shape.ffn, shape.hidden
        yield f"{block}.ffn_up.weight", shape.ffn, shape.hidden
        yield f"{block}.ffn_down.weight", shape.hidden, shape.ffn
    yield "output.weight", shape.vocab, shape.hidden


def norms(shape: LlamaShape) -> Iterator[str]:
    """Names of the norm weights, all of the hidden size."""
    for layer in range(shape.layers):
        yield f"blk.{layer}.attn_norm.weight"
        yield f"blk.{layer}.ffn_norm.weight"
    yield "output_norm.weight"


def random_q4_0(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Random Q4_0 blocks: uint8 of shape (rows, columns / 32 * 18)."""
    blocks = columns // BLOCK
    data = rng.integers(0, 256, (rows, blocks, BLOCK_BYTES), dtype=np.uint8)
    scale = rng.uniform(0.5, 1.5, (rows, blocks, 1)) * (WEIGHT_STD / CODE_STD)
    data[:, :, :2] = scale.astype(np.float16).view(np.uint8)
    return data.reshape(rows, blocks * BLOCK_BYTES)


def random_float(dtype: type[np.floating]) -> Callable[..., np.ndarray]:
    """Writes random matrices of a float type: shape (rows, columns)."""

    def matrix(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
        values = rng.standard_normal((rows, columns), np.float32) * np.float32(WEIGHT_STD)
        return values.astype(dtype, copy=False)

    return matrix


@dataclass(frozen=True)
class Kind:
    """How the matrices are stored.

    Args:
        tensor: llama.cpp's number for it.
        file: what the file says of itself.
        dtype: of the arrays that :attr:`random` gives.
        random: makes a matrix from a generator, rows and columns.
    """

    tensor: gguf.GGMLQuantizationType
    file: gguf.LlamaFileType
    dtype: type[np.generic]
    random: Callable[[np.random.Generator, int, int], np.ndarray]

    def width(self, columns: int) -> int:
        """Elements of :attr:`dtype` in a row of ``columns`` weights."""
        return columns // BLOCK * BLOCK_BYTES if self.dtype is np.uint8 else columns


KINDS: dict[str, Kind] = {
    "q4_0": Kind(
        gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0, np.uint8, random_q4_0
    ),
    "f16": Kind(
        gguf.GGMLQuantizationType.F16,
        gguf.LlamaFileType.MOSTLY_F16,
        np.float16,
        random_float(np.float16),
    ),
    "f32": Kind(
        gguf.GGMLQuantizationType.F32,
        gguf.LlamaFileType.ALL_F32,
        np.float32,
        random_float(np.float32),
    ),
}


def add_metadata(writer: gguf.GGUFWriter, name: str, shape: LlamaShape, kind: Kind) -> None:
    """Write the keys that llama.cpp needs, with a vocabulary of placeholder tokens."""
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(kind.file)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{index}>" for index in range(shape.vocab)])
    writer.add_token_scores([0.0] * shape.vocab)
    writer.add_token_types([gguf.TokenType.NORMAL] * shape.vocab)


def add_tensors(writer: gguf.GGUFWriter, shape: LlamaShape, kind: Kind) -> None:
    """Announce all tensors, in the order in which they are written."""
    for tensor, rows, columns in matrices(shape):
        size = (rows, kind.width(columns))
        nbytes = rows * kind.width(columns) * np.dtype(kind.dtype).itemsize
        writer.add_tensor_info(tensor, size, np.dtype(kind.dtype), nbytes, raw_dtype=kind.tensor)
    for tensor in norms(shape):
        writer.add_tensor_info(tensor, (shape.hidden,), np.dtype(np.float32), shape.hidden * 4)


def write_random_gguf(name: str, output: Path, kind: str = "q4_0", seed: int = 0) -> Path:
    """Write the file, one tensor in memory at a time, and return its path.

    Args:
        name: a shape's name in :data:`~benchmarks.shapes.SHAPES`.
        output: the file; it appears only when it is complete.
        kind: a name in :data:`KINDS`.
        seed: of the random weights.
    """
    shape, stored = SHAPES[name], KINDS[kind]
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    writer = gguf.GGUFWriter(partial, "llama")
    add_metadata(writer, name, shape, stored)
    add_tensors(writer, shape, stored)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        rng = np.random.default_rng(seed)
        for _, rows, columns in matrices(shape):
            writer.write_tensor_data(stored.random(rng, rows, columns))
        for _ in norms(shape):
            writer.write_tensor_data(np.ones(shape.hidden, np.float32))
        writer.close()
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--type", choices=sorted(KINDS), default="q4_0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(write_random_gguf(arguments.shape, arguments.output, arguments.type, arguments.seed))


if __name__ == "__main__":
    main()
