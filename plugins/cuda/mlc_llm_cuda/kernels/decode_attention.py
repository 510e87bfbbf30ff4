"""Attention of single tokens over pages in float16: see ``decode_attention.cuh``.

Scores, softmax and sums are float32. A weight of a key is taken to 22 bits of the largest one's.
What a row's result is depends on its own position, keys and values alone, to the bit.
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
from mlc_llm.compile.gpu.kernels.launch import Buffer, Expr, f32, i32, kernel, launch
from mlc_llm.plugin import PAGE_SIZE, AttentionSpec
from mlc_llm_cuda.kernels.linear import INSTRUCTION
from mlc_llm_cuda.kernels.text import call

FILES = ("ptx.cuh", "decode_attention.cuh")
WARPS, KEY_CHUNK, VALUE_CHUNK = 8, 32, 64
"""The kernel's ``kDecodeWarps``, ``kKeyChunk`` and ``kValueChunk``."""

HEAD_SIZES = range(16, 257, 8)
MOST_SPLITS = 64
BLOCKS = 256
"""Blocks that fill any GPU of today, and leave each as many keys as they can: two a multiprocessor
of the largest."""


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
        size = given.tokens * i32(spec.query_heads * splits_of(spec) * (2 + spec.value_size))
        records = T.alloc_buffer((size,), "float32", scope="global")
        _split(given, records)
        _join(given, records)
    return built.get()


def splits_of(spec: AttentionSpec) -> int:
    """Into how many parts the keys of a row are split at most.

    A split has at least a page for each warp, so windows have fewer.
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
    return -(-spec.group // _tile(spec))


def _split(given: AttentionArguments, records: Buffer) -> None:
    """The launch that attends to each split by itself."""
    spec, splits = given.spec, splits_of(given.spec)
    tasks = given.tokens * i32(spec.kv_heads * _tiles(spec))
    # Many rows have many blocks, of which each then takes several splits.
    blocks = T.max(i32(1), T.min(i32(splits), T.truncdiv(i32(4 * BLOCKS), tasks)))
    with launch([tasks, blocks], WARPS * 32):
        memory = T.alloc_buffer((i32(_memory(spec)),), "uint8", scope="shared.dyn")
        arguments = {
            "const half* qkv": given.qkv.data,
            "int width": i32(spec.qkv_width),
            "const int* positions": _start(given.positions),
            "const int* sequences": _start(given.sequences),
            "const int* page_table": _start(given.pages.table),
            "int table_width": given.pages.table.shape[1],
            "const half* pages": given.pages.tensor.data,
            "float* records": records.data,
            "float scale": f32(query_scale(spec)),
            "float cap": f32(spec.soft_cap or 0.0),
            "unsigned char* memory": memory.data,
        }
        _call("decode_split", spec, arguments, [name.split()[-1] for name in arguments])


def _join(given: AttentionArguments, records: Buffer) -> None:
    """The launch that adds up the splits."""
    spec = given.spec
    warps = -(-spec.value_size // 64)
    with launch([given.tokens * i32(spec.query_heads)], warps * 32):
        arguments = {
            "const float* records": records.data,
            "const int* positions": _start(given.positions),
            "half* out": given.out.data,
        }
        if given.sinks is not None:
            arguments["const float* sinks"] = given.sinks.data
        passed = ["records", "positions", "nullptr" if given.sinks is None else "sinks", "out"]
        _call("decode_join", spec, arguments, passed)


def _memory(spec: AttentionSpec) -> int:
    """Bytes of shared memory of a block: queries, and two parts of a page for each warp."""
    key_chunks, value_chunks = -(-spec.key_size // KEY_CHUNK), -(-spec.value_size // VALUE_CHUNK)
    pieces = min(8, max(2 * key_chunks, 4 * value_chunks))
    return 512 * (2 * key_chunks + WARPS * 2 * pieces) + 1024


def _start(table: Buffer) -> Expr:
    """The address of a table, which may begin within its storage."""
    return T.address_of(table[(i32(0),) * len(table.shape)])


def _call(
    function: str, spec: AttentionSpec, arguments: dict[str, Expr], passed: Sequence[str]
) -> None:
    """Call an instance of a template, with the names that are passed to it."""
    mask, sizes = KeyMask.of(spec), (spec.key_size, spec.value_size)
    layer = (spec.query_heads, spec.kv_heads, _tile(spec), *sizes)
    layer += (mask.window or 0, mask.sink, splits_of(spec))
    body = f"{function}<DecodeLayer<{', '.join(map(str, layer))}>>({', '.join(passed)});"
    call("_".join(re.findall(r"\w+", body)), arguments, body, FILES)
