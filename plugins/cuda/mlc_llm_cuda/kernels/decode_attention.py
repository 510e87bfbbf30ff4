"""Attention of single tokens over pages in float16: see ``decode_attention.cuh``.

Scores, softmax and sums are float32. A key's weight is taken to 22 bits, or to 2^-39 of the largest
one. (Tensor cores add the 16 products of an instruction with fewer guard bits than IEEE asks for:
that costs units of roundoff, no more.) A row's result depends on its own position, query, keys and
values alone, to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.attention_terms import KeyMask, query_scale
from mlc_llm.compile.gpu import attention as shared_attention
from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels.attention import AttentionArguments
from mlc_llm.compile.gpu.kernels.launch import (
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    f32,
    i32,
    kernel,
    launch,
    serial,
)
from mlc_llm.plugin import PAGE_SIZE, AttentionSpec
from mlc_llm_cuda.kernels.linear import INSTRUCTION
from mlc_llm_cuda.kernels.text import call, resident, start

FILES = ("ptx.cuh", "decode_layer.cuh", "decode_state.cuh", "decode_attention.cuh")
WARPS, KEY_CHUNK, VALUE_CHUNK = 8, 32, 64
"""The kernel's ``kDecodeWarps``, ``kKeyChunk`` and ``kValueChunk``."""

HEAD_SIZES = range(8, 257, 8)
MOST_SPLITS = 64
BLOCKS = 256
"""Blocks for one row: about two for each multiprocessor of the largest GPUs."""
MOST_BLOCKS = 4 * BLOCKS
"""Blocks for many rows, unless there are more of these; a block then takes several splits."""
MOST_ROWS = 32
"""Rows of a launch. Scratch memory, where the records are, has a fixed size."""


def is_covered(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> bool:
    """Whether there is a kernel for a description."""
    return (
        INSTRUCTION in capabilities.matrix_instructions
        and dtype == activation_dtype == "float16"
        and spec.key_size in HEAD_SIZES
        and spec.value_size in HEAD_SIZES
    )


@cache
def decode(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.attention.decode`."""
    if not is_covered(spec, dtype, activation_dtype, capabilities):
        return shared_attention.decode(spec, dtype, activation_dtype, capabilities)
    with kernel("attention_decode") as built:
        given = AttentionArguments.declare(spec, dtype, activation_dtype, prefill=False)
        size = MOST_ROWS * spec.query_heads * most_splits(spec) * (2 + spec.value_size)
        records = argument("records", (i32(size),))
        with serial(ceil_div(given.tokens, MOST_ROWS)) as turn:
            first = bind(turn * i32(MOST_ROWS))
            rows = bind(T.min(given.tokens - first, i32(MOST_ROWS)))
            _split(given, first, rows, records)
            _join(given, first, rows, records)
    return built.get()


def most_splits(spec: AttentionSpec) -> int:
    """How many splits the keys of a row have at most.

    A split has at least a page for each warp, unless it is the last; a window fills only some.
    """
    splits = min(MOST_SPLITS, max(1, BLOCKS // (spec.kv_heads * _tiles(spec))))
    mask = KeyMask.of(spec)
    if mask.window is None:
        return splits
    pages = -(-mask.sink // PAGE_SIZE) + (mask.window - 2) // PAGE_SIZE + 2
    return min(splits, -(-pages // WARPS))


def _tile(spec: AttentionSpec) -> int:
    """How many heads of a group share what is read: outputs of 16 wide ones fill the registers."""
    return 16 if spec.group > 8 and spec.value_size <= 128 else 8


def _tiles(spec: AttentionSpec) -> int:
    """Tiles of a group's heads."""
    return -(-spec.group // _tile(spec))


def _split(given: AttentionArguments, first: Expr, rows: Expr, records: Buffer) -> None:
    """The launch that attends to each split by itself."""
    spec = given.spec
    tasks = bind(rows * i32(spec.kv_heads * _tiles(spec)))
    blocks = T.min(i32(most_splits(spec)), T.truncdiv(i32(MOST_BLOCKS), tasks))
    with launch([tasks, T.max(blocks, i32(1))], WARPS * 32), resident(_blocks_together(spec)):
        memory = T.alloc_buffer((i32(shared_bytes(spec)),), "uint8", scope="shared.dyn")
        arguments = {
            "const half* qkv": given.qkv.data,
            "int width": i32(spec.qkv_width),
            "int first_row": first,
            "const int* positions": start(given.positions),
            "const int* sequences": start(given.sequences),
            "const int* page_table": start(given.pages.table),
            "int table_width": given.pages.table.shape[1],
            "const half* pages": given.pages.tensor.data,
            "float* records": records.data,
            "float scale": f32(query_scale(spec)),
            "float cap": f32(spec.soft_cap or 0.0),
            "unsigned char* memory": memory.data,
        }
        _call("decode_split", spec, arguments, [name.split()[-1] for name in arguments])


def _join(given: AttentionArguments, first: Expr, rows: Expr, records: Buffer) -> None:
    """The launch that adds up the splits; a thread makes two elements."""
    spec = given.spec
    with launch([rows * i32(spec.query_heads)], -(-spec.value_size // 64) * 32):
        arguments = {
            "const float* records": records.data,
            "int first_row": first,
            "const int* positions": start(given.positions),
            "half* out": given.out.data,
        }
        if given.sinks is not None:
            arguments["const float* sinks"] = given.sinks.data
        sinks = "nullptr" if given.sinks is None else "sinks"
        _call("decode_join", spec, arguments, ["records", "first_row", "positions", sinks, "out"])


def shared_bytes(spec: AttentionSpec) -> int:
    """Bytes of shared memory of a block: see ``decode_split``."""
    key_chunks, value_chunks = -(-spec.key_size // KEY_CHUNK), -(-spec.value_size // VALUE_CHUNK)
    pieces = min(8, max(2 * key_chunks, 4 * value_chunks))
    return 512 * (2 * key_chunks + 2 * pieces * WARPS) + 1024


def _blocks_together(spec: AttentionSpec) -> int:
    """Blocks of a multiprocessor whose registers hold everything: outputs take most of them.

    One has 64 KiB of keys and values on their way (32 where heads have up to 64 elements), which is
    more than bandwidth times latency on any GPU (17 KiB on an H100).
    """
    outputs = spec.value_size * _tile(spec) // 8
    return 3 if outputs <= 64 and spec.key_size <= 64 else 2 if outputs <= 128 else 1


def _call(
    function: str, spec: AttentionSpec, arguments: dict[str, Expr], passed: Sequence[str]
) -> None:
    """Call an instance of a template, with the names that are passed to it."""
    mask, heads = KeyMask.of(spec), (spec.query_heads, spec.kv_heads, _tile(spec))
    layer = (*heads, spec.key_size, spec.value_size, mask.window or 0, mask.sink, most_splits(spec))
    body = f"{function}<DecodeLayer<{', '.join(map(str, layer))}>>({', '.join(passed)});"
    call("_".join(re.findall(r"\w+", body)), arguments, body, FILES)
