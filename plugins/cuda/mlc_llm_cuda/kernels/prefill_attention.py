"""Attention of many tokens: see ``prefill_attention.cuh``.

Scores, the softmax and all sums are float32. A weight, which is at most 1 before the weights are
divided by their sum, is rounded to float16 when it meets its value. That adds to an element of a
result at most 2^-11 times the sum over the keys of weight times absolute value; and 2^-25 of the
absolute value for a key whose weight is less than 2^-14 of the largest.

A row's result does not depend, to the bit, on the other rows of the pass or on where the chunks of
a prompt begin. But values must be finite: an infinite one or a NaN makes rows NaN that do not see
it, where they see another key of its tile (64 keys) and the pass has a row that sees it.
"""

from __future__ import annotations

from functools import cache

from tvm.tirx import PrimFunc

from mlc_llm.compile.attention_terms import LOG2E, query_scale
from mlc_llm.compile.gpu import attention as shared_attention
from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels.attention import AttentionArguments
from mlc_llm.compile.gpu.kernels.launch import (
    Expr,
    ceil_div,
    i32,
    kernel,
    launch,
    shared,
)
from mlc_llm.plugin import AttentionSpec
from mlc_llm_cuda.kernels.linear import INSTRUCTION
from mlc_llm_cuda.kernels.text import call, resident, start

MOST_ELEMENTS = 256
"""Of a head: more do not fit into the registers."""

FILES = ("ptx.cuh", "attention_tiles.cuh", "prefill_attention.cuh")
THREADS, ROWS = 128, 64
"""The kernel's ``kAttendThreads`` and ``kAttendRows``."""


def is_covered(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> bool:
    """Whether there is a kernel for a layer; the arguments are those of :func:`prefill`."""
    return (
        INSTRUCTION in capabilities.matrix_instructions
        and dtype == activation_dtype == "float16"
        and all(n % 16 == 0 and n <= MOST_ELEMENTS for n in (spec.key_size, spec.value_size))
        and spec.scale > 0
    )


@cache
def prefill(
    spec: AttentionSpec, dtype: str, activation_dtype: str, capabilities: GPUCapabilities
) -> PrimFunc:
    """As :func:`mlc_llm.compile.gpu.kernels.attention.prefill`."""
    if not is_covered(spec, dtype, activation_dtype, capabilities):
        return shared_attention.prefill(spec, dtype, activation_dtype, capabilities)
    with kernel("matrix_attention_prefill") as built:
        given = AttentionArguments.declare(spec, dtype, activation_dtype, prefill=True)
        parts = given.starts.shape[0] - i32(1)
        # A part whose rows fill no whole number of tiles has one more.
        tiles = ceil_div(given.tokens * i32(spec.group), ROWS) + parts
        together = 3 if spec.key_size + spec.value_size <= 256 else 2
        with launch([i32(spec.kv_heads), tiles], THREADS), resident(together):
            _attend(spec, given, parts, _keys_of_a_tile(spec, capabilities.shared_memory))
    return built.get()


def _keys_of_a_tile(spec: AttentionSpec, memory: int) -> int:
    """64, or 32 where their values do not fit into shared memory with as many."""
    return 64 if 64 * 2 * (spec.key_size + spec.value_size) <= memory else 32


def _attend(spec: AttentionSpec, given: AttentionArguments, parts: Expr, keys: int) -> None:
    """The call of the kernel's function."""
    sizes = (spec.key_size, spec.value_size)
    layer = (spec.kv_heads, spec.group, *sizes, spec.qkv_width, spec.window or 0, spec.sink, keys)
    factor, cap, sink_factor = _factors(spec)
    memory = shared((keys * sum(sizes),), "float16")
    arguments = {
        "const half* qkv": given.qkv.data,
        "const int* positions": start(given.positions),
        "const int* sequences": start(given.sequences),
        "const int* starts": start(given.starts),
        "int parts": parts,
        "const int* page_table": start(given.pages.table),
        "int table_width": given.pages.table.shape[1],
        "const half* pages": given.pages.tensor.data,
        "half* out": given.out.data,
        "half* memory": memory.data,
    }
    if given.sinks is not None:
        arguments["const float* sinks"] = given.sinks.data
    sinks = "nullptr" if given.sinks is None else "sinks"
    numbers = f"{factor!r}f, {cap!r}f, {sink_factor!r}f"
    name = "_".join(map(str, (*layer, factor, cap, sinks)))
    call(
        "prefill_attention_" + "".join(c if c.isalnum() else "_" for c in name),
        arguments,
        f"prefill_attention<AttendingLayer<{', '.join(map(str, layer))}>>(qkv, positions, "
        f"sequences, starts, parts, page_table, table_width, pages, {sinks}, out, memory, "
        f"{numbers});",
        FILES,
    )


def _factors(spec: AttentionSpec) -> tuple[float, float, float]:
    """The kernel's ``factor``, ``cap`` and ``sink_factor``."""
    if spec.soft_cap is None:
        return query_scale(spec), 0.0, 1.0 / spec.scale
    return 2.0 * LOG2E * query_scale(spec), spec.soft_cap * LOG2E, LOG2E
