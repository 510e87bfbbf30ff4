"""Whether the emulated GPU sees a missing barrier: each one of each kernel is left out in turn.

It is seen when a result is wrong in some order of the threads, or as a race.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import decode_attention, prefill_attention
from mlc_llm_cuda.kernels import linear as cuda_linear

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.codegen import GPUCodegen
from mlc_llm.compile.gpu.kernels.linear import Product, gemv, matmul
from mlc_llm.compile.gpu.kernels.norm import RMSNormKind, head_norm, layer_norm, rms_norm
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.plugin import AttentionKernels, AttentionSpec
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.testing import paged_attention as paged
from mlc_llm.testing.gpu_kernels.linear import stored
from mlc_llm.testing.gpu_kernels.norm import rms
from mlc_llm.testing.gpu_kernels.suite import Run

from .gpu import GPU, GPUFailed
from .target import TARGET
from .test_matmul import SMALL, made

pytestmark = pytest.mark.slow

CAPABILITIES = GPUCapabilities.of(TARGET)


def attention(spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
    return GPUCodegen(CAPABILITIES, {}).attention(spec, dtype, activation_dtype)


def check_linear(run: Run, make: Callable[..., object], tokens: int) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal((rows, 300)).astype("float32") for rows in (tokens, 40))
    y = np.full((tokens, 40), np.nan, "float32")
    product = Product(weight_of(Scheme(32, "float32"), 300), 40, "float32", "float32", None)
    run(make(product, CAPABILITIES), x, w, y)
    np.testing.assert_allclose(y, x @ w.T, atol=1e-3)


def check_q4_gemv(run: Run, norm: RMSNormKind | None = None) -> None:
    rng, scheme = np.random.default_rng(0), Scheme(4, "float16", group=32, zero=7)
    tensors, values = stored(rng, 40, 1088, scheme)
    x, w = (rng.standard_normal((1, 1088)).astype("float16") for _ in range(2))
    y = np.full((1, 40), np.nan, "float32")
    product = Product(weight_of(scheme, 1088), 40, "float16", "float32", norm=norm)
    normed = [] if norm is None else [w[0]]
    run(cuda_linear.gemv(product, capabilities_of(TARGET)), x, *normed, *tensors, y)
    inputs, error = (x.astype(float), 1e-2) if norm is None else (rms(x, w), 0.5)
    np.testing.assert_allclose(y, inputs @ values.T, atol=error)


def check_many_tokens(run: Run) -> None:
    rng, scheme = np.random.default_rng(0), Scheme(4, "float16", group=32, zero=7)
    tensors, values = stored(rng, 40, 320, scheme)
    x = rng.standard_normal((20, 320)).astype("float16")
    y = np.full((20, 40), np.nan, "float32")
    product = Product(weight_of(scheme, 320), 40, "float16", "float32")
    run(made(product, SMALL), x, *tensors, y)
    np.testing.assert_allclose(y, x.astype(float) @ values.T, atol=0.5)


def check_rms_norm(run: Run) -> None:
    x = np.random.default_rng(0).standard_normal((3, 601)).astype("float32")
    y = np.full_like(x, np.nan)
    run(rms_norm(601, 1e-5, False, "float32", "float32", CAPABILITIES), x, np.ones_like(x[0]), y)
    np.testing.assert_allclose(y, rms(x, np.ones(601)), rtol=1e-5)


def check_layer_norm(run: Run) -> None:
    x = np.random.default_rng(0).standard_normal((3, 601)).astype("float32")
    y = np.full_like(x, np.nan)
    kernel = layer_norm(601, 1e-5, "float32", None, "float32", CAPABILITIES)
    run(kernel, x, np.ones_like(x[0]), y)
    wanted = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def check_head_norm(run: Run) -> None:
    spec = paged.describe((6, 3), 20)
    qkv = np.random.default_rng(0).standard_normal((4, spec.qkv_width)).astype("float32")
    y, ones = np.full_like(qkv, np.nan), np.ones(20, "float32")
    kernel = head_norm(spec, 1e-5, False, "float32", "float32", CAPABILITIES)
    run(kernel, qkv, ones, ones, y)
    heads = qkv[:, :180].reshape(4, 9, 20)
    np.testing.assert_allclose(y[:, :180].reshape(heads.shape), rms(heads, ones), rtol=1e-5)


def check_decode(run: Run) -> None:
    rng = np.random.default_rng(0)
    paged.check_decode(run, attention, rng, paged.describe((4, 2), 16), [33, 1, 150])


def check_prefill(run: Run) -> None:
    rng = np.random.default_rng(0)
    spec = paged.describe((4, 2), 16)
    paged.check_prefill(run, attention, rng, spec, [(40, 3), (0, 75)])


def matrix_attention(spec: AttentionSpec, dtype: str, activation_dtype: str) -> AttentionKernels:
    kinds = (spec, dtype, activation_dtype, capabilities_of(TARGET))
    return AttentionKernels(
        append=None,
        rotate=None,
        prefill=prefill_attention.prefill(*kinds),
        decode=decode_attention.decode(*kinds),
    )


def check_matrix_decode(run: Run) -> None:
    """Values of more than a chunk."""
    rng, spec = np.random.default_rng(0), paged.describe((4, 2), 16, value_size=80)
    paged.check_decode(run, matrix_attention, rng, spec, [33, 1, 150], "float16")


def check_matrix_prefill(run: Run) -> None:
    rng, spec = np.random.default_rng(0), paged.describe((4, 2), 16)
    paged.check_prefill(run, matrix_attention, rng, spec, [(130, 3), (0, 75)], "float16")


KERNELS: dict[str, Callable[[Run], None]] = {
    "gemv": lambda run: check_linear(run, gemv, 1),
    "matmul": lambda run: check_linear(run, matmul, 37),
    "q4_gemv": check_q4_gemv,
    "many tokens": check_many_tokens,
    "q4_gemv with a norm": lambda run: check_q4_gemv(run, RMSNormKind(1e-5, False, "float16")),
    "rms_norm": check_rms_norm,
    "layer_norm": check_layer_norm,
    "head_norm": check_head_norm,
    "attention_decode": check_decode,
    "attention_prefill": check_prefill,
    "matrix_attention_decode": check_matrix_decode,
    "matrix_attention_prefill": check_matrix_prefill,
}


NOT_CALLED = {"q4_gemv": {1, 2}, "q4_gemv with a norm": {0}}
"""Barriers of functions in ``input_rows.cuh`` that these kernels do not call."""


@pytest.fixture(scope="module")
def checked_gpu(preload: str) -> Iterator[GPU]:
    with GPU(preload, GPU_EMULATOR_CHECK="1") as gpu:
        yield gpu


def seen(gpu: GPU, check: Callable[[Run], None]) -> bool:
    """Whether a kernel fails, or its result is wrong."""
    try:
        check(gpu.run_kernel)
    except (AssertionError, GPUFailed):
        return True
    return False


@pytest.mark.parametrize("name", KERNELS)
def test_each_barrier_is_missed(gpu: GPU, checked_gpu: GPU, name: str) -> None:
    check, unseen = KERNELS[name], set()
    for number in barriers_of(gpu, check):
        for one in (gpu, checked_gpu):
            one.call("leave_out_barrier", number)
        orders = (in_order(gpu, order) for order in ("forward", "reverse", "random"))
        wrong = any(seen(one, check) for one in orders)
        if not wrong and not seen(checked_gpu, check):
            unseen.add(number)
    assert unseen == NOT_CALLED.get(name, set())


def in_order(gpu: GPU, order: str) -> GPU:
    """The same GPU, whose threads run in another order."""
    gpu.set("ORDER", order)
    return gpu


def barriers_of(gpu: GPU, check: Callable[[Run], None]) -> range:
    """The barriers of a kernel, which is right with all of them."""
    gpu.set("ORDER", None)
    gpu.call("leave_out_barrier", None)
    check(gpu.run_kernel)
    return range(gpu.call("barriers"))
