"""Write a GGUF file of a named shape with random weights.

Needs the ``gguf`` package. ``q4_0`` has every matrix in Q4_0: ``llama-quantize`` would keep the
output matrix in Q6_K, or the embedding table where that is the output matrix, which is slower to
read; here it is Q4_0 too, so the comparison leans towards llama.cpp. ``q4_k_m`` has the types that
``llama-quantize`` gives to a file of that name. Every byte is a token, as in
:mod:`benchmarks.byte_tokenizer`.

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
from gguf import GGMLQuantizationType, LlamaFileType

from benchmarks.byte_tokenizer import BOS, EOS, SPECIAL_TOKENS, vocabulary
from benchmarks.families import FAMILIES
from benchmarks.shapes import SHAPES, ModelShape

WEIGHT_STD = 0.02
CODE_STD = 4.6
"""Standard deviation of a uniform 4-bit code."""


def matrices(shape: ModelShape) -> Iterator[tuple[str, int, int]]:
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
    if not shape.tied:
        yield "output.weight", shape.vocab, shape.hidden


def norms(shape: ModelShape) -> Iterator[tuple[str, int]]:
    """Names and sizes of the norm weights."""
    for layer in range(shape.layers):
        for norm in FAMILIES[shape.model_type].norms:
            size = shape.head_dim if norm.of_head else shape.hidden
            yield f"blk.{layer}.{norm.file}.weight", size
    yield "output_norm.weight", shape.hidden


def random_q4_0(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """A float16 scale and 32 codes of 4 bits: uint8 of shape (blocks, 18)."""
    data = rng.integers(0, 256, (blocks, 18), dtype=np.uint8)
    data[:, :2] = _scales(rng, blocks, WEIGHT_STD / CODE_STD)
    return data


def random_q4_k(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """Two float16 super-scales, 8 scales and minimums of 6 bits, 256 codes of 4: (blocks, 144)."""
    data = rng.integers(0, 256, (blocks, 144), dtype=np.uint8)
    # Scales and minimums are 32 in the mean, codes 7.5.
    data[:, :2] = _scales(rng, blocks, WEIGHT_STD / CODE_STD / 32)
    data[:, 2:4] = _scales(rng, blocks, 7.5 * WEIGHT_STD / CODE_STD / 32)
    return data


def random_q6_k(rng: np.random.Generator, blocks: int) -> np.ndarray:
    """256 codes of 6 bits, 16 scales of 8 bits, a float16 super-scale: (blocks, 210)."""
    data = rng.integers(0, 256, (blocks, 210), dtype=np.uint8)
    data[:, 192:208] = rng.integers(32, 96, (blocks, 16), dtype=np.uint8)
    data[:, 208:] = _scales(rng, blocks, WEIGHT_STD / (4 * CODE_STD) / 64)
    return data


def _scales(rng: np.random.Generator, blocks: int, mean: float) -> np.ndarray:
    """The bytes of float16 scales: uint8 of shape (blocks, 2)."""
    scales = rng.uniform(0.5, 1.5, (blocks, 1)) * mean
    return scales.astype(np.float16).view(np.uint8)


def random_float(dtype: type[np.floating]) -> Callable[[np.random.Generator, int], np.ndarray]:
    """Writes random weights of a float type: shape (weights, 1)."""

    def weights(rng: np.random.Generator, count: int) -> np.ndarray:
        values = rng.standard_normal((count, 1), np.float32) * np.float32(WEIGHT_STD)
        return values.astype(dtype, copy=False)

    return weights


@dataclass(frozen=True)
class Kind:
    """How a matrix is stored.

    Args:
        tensor: llama.cpp's number for it.
        dtype: of the arrays that :attr:`random` gives.
        random: makes some blocks from a generator.
    """

    tensor: GGMLQuantizationType
    dtype: type[np.generic]
    random: Callable[[np.random.Generator, int], np.ndarray]

    @property
    def block(self) -> tuple[int, int]:
        """How many weights a block has, and how many elements of :attr:`dtype`."""
        weights, nbytes = gguf.GGML_QUANT_SIZES[self.tensor]
        return weights, nbytes // np.dtype(self.dtype).itemsize

    def matrix(self, rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
        """A random matrix: (rows, elements of a row).

        Raises:
            ValueError: the length of a row is not a whole number of blocks.
        """
        weights, _ = self.block
        if columns % weights:
            raise ValueError(f"rows of {columns} are not stored as {self.tensor.name}")
        return self.random(rng, rows * columns // weights).reshape(rows, -1)


Q4_0 = Kind(GGMLQuantizationType.Q4_0, np.uint8, random_q4_0)
Q4_K = Kind(GGMLQuantizationType.Q4_K, np.uint8, random_q4_k)
Q6_K = Kind(GGMLQuantizationType.Q6_K, np.uint8, random_q6_k)
F16 = Kind(GGMLQuantizationType.F16, np.float16, random_float(np.float16))
F32 = Kind(GGMLQuantizationType.F32, np.float32, random_float(np.float32))


def as_q4_k_m(tensor: str, shape: ModelShape) -> Kind:
    """The type of a matrix in a file of the name Q4_K_M.

    The output matrix has more bits, and so have value and down projections in the first and last
    eighth of the layers, and in every third between them.
    """
    if tensor == ("token_embd.weight" if shape.tied else "output.weight"):
        return Q6_K
    if not tensor.endswith(("attn_v.weight", "ffn_down.weight")):
        return Q4_K
    layer, eighth = int(tensor.split(".")[1]), shape.layers // 8
    finer = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
    return Q6_K if finer else Q4_K


FILES: dict[str, tuple[LlamaFileType, Callable[[str, ModelShape], Kind]]] = {
    "q4_0": (LlamaFileType.MOSTLY_Q4_0, lambda tensor, shape: Q4_0),
    "q4_k_m": (LlamaFileType.MOSTLY_Q4_K_M, as_q4_k_m),
    "f16": (LlamaFileType.MOSTLY_F16, lambda tensor, shape: F16),
    "f32": (LlamaFileType.ALL_F32, lambda tensor, shape: F32),
}
"""By name, what a file says of itself, and what a matrix of it is, by its name and the shape."""


def add_metadata(
    writer: gguf.GGUFWriter, name: str, shape: ModelShape, file_type: LlamaFileType
) -> None:
    """Write the keys that llama.cpp needs, with a vocabulary in which every byte is a token."""
    family = FAMILIES[shape.model_type]
    writer.add_name(name)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    if family.window_in_file and shape.sliding_window is not None:
        writer.add_sliding_window(shape.sliding_window)
    for key, number in family.settings.items():
        writer.add_float32(f"{family.gguf}.{key}", number)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(file_type)
    tokens = vocabulary(shape.vocab)
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    first = len(SPECIAL_TOKENS)
    kinds[:first] = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds[first : first + 256] = [gguf.TokenType.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(EOS)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)


def add_tensors(
    writer: gguf.GGUFWriter, shape: ModelShape, kind: Callable[[str, ModelShape], Kind]
) -> None:
    """Announce all tensors, in the order in which they are written."""
    for tensor, rows, columns in matrices(shape):
        stored = kind(tensor, shape)
        weights, elements = stored.block
        size = (rows, columns // weights * elements)
        nbytes = size[0] * size[1] * np.dtype(stored.dtype).itemsize
        writer.add_tensor_info(
            tensor, size, np.dtype(stored.dtype), nbytes, raw_dtype=stored.tensor
        )
    for tensor, width in norms(shape):
        writer.add_tensor_info(tensor, (width,), np.dtype(np.float32), width * 4)


def write_random_gguf(name: str, output: Path, kind: str = "q4_0", seed: int = 0) -> Path:
    """Write the file, one tensor in memory at a time, and return its path.

    Args:
        name: a shape's name in :data:`~benchmarks.shapes.SHAPES`.
        output: the file; it appears only when it is complete.
        kind: a name in :data:`FILES`.
        seed: of the random weights.
    """
    shape, (file_type, stored) = SHAPES[name], FILES[kind]
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    writer = gguf.GGUFWriter(partial, FAMILIES[shape.model_type].gguf)
    add_metadata(writer, name, shape, file_type)
    add_tensors(writer, shape, stored)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        rng = np.random.default_rng(seed)
        for tensor, rows, columns in matrices(shape):
            writer.write_tensor_data(stored(tensor, shape).matrix(rng, rows, columns))
        for _, width in norms(shape):
            writer.write_tensor_data(np.ones(width, np.float32))
        writer.close()
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("output", type=Path)
    parser.add_argument("--type", choices=sorted(FILES), default="q4_0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(write_random_gguf(arguments.shape, arguments.output, arguments.type, arguments.seed))


if __name__ == "__main__":
    main()
