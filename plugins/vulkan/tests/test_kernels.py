"""The kernels that GPUs share, on Vulkan, against NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from mlc_llm_vulkan import DEVICE

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.plugin import Availability
from mlc_llm.testing import paged_attention as paged
from mlc_llm.testing.gpu_kernels import (
    GPUActivationSuite,
    GPUAttentionSuite,
    GPULinearSuite,
    GPUNormSuite,
)
from mlc_llm.testing.gpu_kernels.attention import LENGTHS, PARTS, ROWS
from mlc_llm.testing.gpu_kernels.suite import Run

pytestmark = pytest.mark.usefixtures("vulkan")


@pytest.fixture(scope="module")
def capabilities() -> GPUCapabilities:
    """What the first adapter can do."""
    return GPUCapabilities.of(DEVICE.target())


@pytest.fixture(scope="module")
def run(vulkan: Availability, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Compiles a kernel and runs it; NumPy arrays are passed as tensors and take the results."""
    folder: Path = tmp_path_factory.mktemp("kernels")
    target = tvm.target.Target(DEVICE.target(), host={"kind": "llvm"})
    device = DEVICE.open(0)
    built: dict[Any, Any] = {}

    def run(kernel: Any, *arguments: Any) -> None:
        if kernel not in built:
            library = folder / f"{len(built)}.so"
            tvm.compile(kernel, target).export_library(str(library))
            module = tvm.runtime.load_module(str(library))
            built[kernel] = module[str(kernel.attrs["global_symbol"])]
        passed = [
            tvm.runtime.tensor(np.ascontiguousarray(a), device) if isinstance(a, np.ndarray) else a
            for a in arguments
        ]
        built[kernel](*passed)
        for given, tensor in zip(arguments, passed, strict=True):
            if isinstance(given, np.ndarray):
                given[...] = tensor.numpy()

    return run


class TestLinear(GPULinearSuite):
    pass


class TestNorm(GPUNormSuite):
    pass


class TestActivation(GPUActivationSuite):
    pass


class TestAttention(GPUAttentionSuite):
    def test_tables_are_views_of_one_tensor(
        self, run: Run, rng: np.random.Generator, make: paged.Make
    ) -> None:
        spec = paged.describe((2, 1), 16, window=21)

        def run_on_views(kernel: Any, *arguments: np.ndarray) -> None:
            tables = [a for a in arguments if a.dtype == np.int32]
            one = np.concatenate([np.full(3, -1, "int32"), *(table.ravel() for table in tables)])
            held, begin, passed = tvm.runtime.tensor(one, DEVICE.open(0)), 3, []
            for a in arguments:
                is_table = a.dtype == np.int32
                passed.append(held._create_view(a.shape, "int32", 4 * begin) if is_table else a)
                begin += a.size if is_table else 0
            run(kernel, *passed)

        paged.check_append(run_on_views, make, rng, spec, ROWS)
        paged.check_decode(run_on_views, make, rng, spec, LENGTHS)
        paged.check_prefill(run_on_views, make, rng, spec, PARTS)
