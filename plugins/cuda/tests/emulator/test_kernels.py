"""The kernels that GPUs share, compiled for CUDA and run on the emulated GPU, against NumPy."""

from __future__ import annotations

import pytest

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.testing.gpu_kernels import (
    GPUActivationSuite,
    GPUAttentionSuite,
    GPULinearSuite,
    GPUNormSuite,
)
from mlc_llm.testing.gpu_kernels.suite import Run

from .gpu import GPU
from .target import TARGET

# g++ compiles each kernel: of those with several parameters, a few are enough for every change.
pytestmark = pytest.mark.matrix


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
