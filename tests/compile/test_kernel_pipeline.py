"""The CPU's short pipeline makes kernels that compute what TVM's own makes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx

from mlc_llm.compile.kernel_pipeline import CPU_KERNELS, kernel_pipeline
from mlc_llm.device.cpu import CPU
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.norm import RmsNormed
from mlc_llm.device.cpu.kernels.rows import rows_kernel
from mlc_llm.device.cpu.schedule import ScheduleRest

TARGET = tvm.target.Target(CPU.target())
RNG = np.random.default_rng(0)


def norm() -> tuple[tirx.PrimFunc, list[np.ndarray]]:
    """A kernel of ours with a tail in each row."""
    kernel = rows_kernel(RmsNormed(1e-5, "float16"), 40, "float32", Isa.of(TARGET))
    x, w = RNG.normal(size=(3, 40)), RNG.normal(size=40)
    return kernel, [x.astype(np.float32), w.astype(np.float16), np.zeros((3, 40), np.float32)]


def gather() -> tuple[tirx.PrimFunc, list[np.ndarray]]:
    """An element-wise function that TVM generates, with a condition, as it is scheduled here."""
    n = te.var("n", "int64")
    x = te.placeholder((n, 24), "float32", "x")
    y = te.compute(
        (n, 24), lambda i, j: tirx.if_then_else(j < 5, x[n - 1 - i, j] * 2.0, x[i, 23 - j]), "y"
    )
    module = tvm.IRModule({"main": te.create_prim_func([x, y])})
    kernel = ScheduleRest(Isa.of(TARGET).lanes)(module)["main"]
    return kernel, [RNG.normal(size=(5, 24)).astype(np.float32), np.zeros((5, 24), np.float32)]


@pytest.mark.parametrize("case", [norm, gather])
def test_the_results_are_bit_identical(
    case: Callable[[], tuple[tirx.PrimFunc, list[np.ndarray]]],
) -> None:
    kernel, arrays = case()
    results = []
    for pipeline in (CPU_KERNELS, "default"):
        tensors: list[Any] = [tvm.runtime.tensor(array) for array in arrays]
        module = tvm.IRModule({"main": kernel.with_attr("global_symbol", "main")})
        tvm.tirx.build(module, target=TARGET, pipeline=pipeline)["main"](*tensors)
        results.append(tensors[-1].numpy())
    ours, tvms = results
    assert ours.any()
    np.testing.assert_array_equal(ours, tvms)


def test_gpus_keep_tvms_pipeline() -> None:
    assert kernel_pipeline(TARGET) == CPU_KERNELS
    assert kernel_pipeline(tvm.target.Target({"kind": "webgpu"})) == "default"
