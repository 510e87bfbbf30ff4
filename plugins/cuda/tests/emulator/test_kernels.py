"""The kernels that GPUs share, compiled for CUDA and run on the emulated GPU, against NumPy."""

from __future__ import annotations

import pytest

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.testing.gpu_kernels import (
    GPUActivationSuite,
    GPUAttentionSuite,
    GPULinearSuite,
    GPUNormSuite,
)
from mlc_llm.testing.gpu_kernels.suite import Run

from .gpu import GPU
from .target import TARGET

# g++ compiles each kernel: a few of them are enough for every change.
pytestmark = pytest.mark.matrix(
    scheme=[
        Scheme(16, "float16"),
        Scheme(4, "float16", group=32, zero=7),
        Scheme(5, "float32", group=32),
        Scheme(6, "float16", group=16, zero=40, layout="columns"),
    ],
    name=["silu", "gelu_tanh"],
    case=[
        *("wide heads", "window and sink", "sink logits", "soft cap"),  # of decode and prefill
        *("part of a head", "interleaved"),  # of append
    ],
)


@pytest.fixture(scope="module")
def capabilities() -> GPUCapabilities:
    return GPUCapabilities.of(TARGET)


@pytest.fixture
def run(gpu: GPU) -> Run:
    return gpu.run_kernel


class TestLinear(GPULinearSuite):
    pass


class TestNorm(GPUNormSuite):
    pass


class TestActivation(GPUActivationSuite):
    pass


class TestAttention(GPUAttentionSuite):
    pass
