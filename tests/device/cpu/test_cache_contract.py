"""The kernels inside TVM's own paged cache: chunks, decode, forks and windows against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.runtime import ShapeTuple

from mlc_llm.compile.kernel_pipeline import compile_kernels
from mlc_llm.compile.rope import inverse_frequencies
from mlc_llm.device.cpu.kernels import attention, kv_cache
from mlc_llm.device.cpu.kernels.rope import split_rotary

HQ, HKV, D, LAYERS = 4, 2, 32, 2
FREQUENCIES = inverse_frequencies(D, 10000.0)
MHA, ROPE_NORMAL = 0, 1


def call(name, *arguments):
    return tvm_ffi.get_global_func(f"vm.builtin.{name}")(*arguments)


def create(machine, window, sink):
    """A cache of two sequences, with every kernel compiled for `window` and `sink`."""

    def built(primfunc):
        return compile_kernels(primfunc, machine.target)[primfunc.attrs["global_symbol"]]

    heads = (HKV, HQ, D, "float32")
    options = {"isa": machine.isa, "window": window, "sink": sink}
    merge = built(attention.merge_state(HQ, D, "float32"))
    return call(
        "paged_attention_kv_cache_create",
        ShapeTuple([2, 2048, 256, 16, 0]),
        ShapeTuple([0, LAYERS]),
        *(HQ, HKV, D, D, ShapeTuple([MHA] * LAYERS), False),
        *(ROPE_NORMAL, 1.0, 10000.0, None, tvm.runtime.empty((1,), "float32")),
        *(built(kv_cache.transpose_append(HKV, D, "float32")), None),
        ["tirx", built(attention.prefill_ragged(*heads, **options))],
        ["tirx", built(attention.prefill_paged(*heads, **options))],
        ["tirx", built(attention.decode(*heads, **options))],
        *([], [], [], [], [], [merge, merge]),
        built(split_rotary(HQ, HKV, D, "float32", FREQUENCIES)),
        built(kv_cache.copy_single_page(HKV, D, "float32")),
        built(kv_cache.debug_get_kv(LAYERS, HKV, D, "float32")),
        built(kv_cache.compact_kv_copy(HKV, D, "float32")),
    )


def rotated(x):
    angle = np.arange(len(x), dtype="float32")[:, None] * np.array(FREQUENCIES, "float32")
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def expected(qkv, window, sink):
    q, k, v = np.split(qkv, [HQ, HQ + HKV], axis=1)
    k, v = (np.repeat(x, HQ // HKV, axis=1).astype("float64") for x in (rotated(k), v))
    score = np.einsum("shd,thd->hst", rotated(q), k) * D**-0.5
    at = np.arange(len(qkv))
    seen = (at <= at[:, None]) & ((at > at[:, None] - (window or len(qkv))) | (at < sink))
    weight = np.where(seen, np.exp(score), 0)
    return np.einsum("hst,thd->shd", weight / weight.sum(-1, keepdims=True), v)


def feed(cache, sequence, qkv, begin, steps, want):
    """Run tokens from `begin` on through every layer, and compare each output."""
    for step in steps:
        end = begin + step
        call("kv_state_begin_forward", cache, ShapeTuple([sequence]), ShapeTuple([step]))
        for layer in range(LAYERS):
            out = tvm.runtime.empty((step, HQ, D), "float32")
            fused = tvm.runtime.tensor(qkv[begin:end])
            call("attention_kv_cache_attention_with_fused_qkv", cache, layer, D**-0.5, fused, out)
            np.testing.assert_allclose(out.numpy(), want[begin:end], rtol=0, atol=3e-6)
        call("kv_state_end_forward", cache)
        begin = end


@pytest.mark.parametrize(("window", "sink"), [(None, 0), (50, 0), (50, 4)])
def test_the_cache_sees_exactly_the_window(best, rng, window, sink):
    steps = [100, 37, 1, 1, 16, 1, 200, 1, 1, 33, 1]
    qkv = rng.standard_normal((sum(steps), HQ + 2 * HKV, D)).astype("float32")
    want, cache = expected(qkv, window, sink), create(best, window, sink)
    call("kv_state_add_sequence", cache, 0)
    feed(cache, 0, qkv, 0, steps, want)
    call("kv_state_popn", cache, 0, 20)
    feed(cache, 0, qkv, len(qkv) - 20, [20], want)
    call("kv_state_fork_sequence", cache, 0, 1, 150)
    feed(cache, 1, qkv, 150, [5, 1, 1, 40, 1], want)
