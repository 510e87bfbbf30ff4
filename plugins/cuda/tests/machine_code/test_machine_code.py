"""The machine code of the kernels in CUDA C: registers, spills, and the widths of loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlc_llm_cuda import DEVICE
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import linear

from benchmarks.gpu.machine_code import machine_code
from mlc_llm.compile.gpu.kernels.linear import Product
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.plugin.scheme import Scheme

pytestmark = pytest.mark.usefixtures("wheels")

CAPABILITIES = capabilities_of(DEVICE.target_for(["80", "90"]))
Q4 = Scheme(4, "float16", group=32, zero=7)


def q4_gemv(columns: int, out: str = "float16") -> Any:
    product = Product(weight_of(Q4, columns), None, "float16", out)
    return linear.gemv(product, CAPABILITIES)


KERNELS: dict[str, Callable[[], Any]] = {
    "q4_gemv 4096": lambda: q4_gemv(4096),
    "q4_gemv 11008 float32": lambda: q4_gemv(11008, "float32"),
    "q4_gemv 192": lambda: q4_gemv(192),
}


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.slow] * (i > 0)) for i, k in enumerate(KERNELS)]
)
def test_registers_hold_everything_and_loads_are_wide(
    name: str, cuobjdump: Callable[..., str], tmp_path: Path
) -> None:
    made = machine_code(KERNELS[name](), cuobjdump, tmp_path)
    assert {architecture for architecture, _ in made} == {"sm_80", "sm_90"}
    for key, code in made.items():
        print(*key, code)
        assert code.spilled == 0
        loads = {kind for kind in code.instructions if kind.startswith("LDG.")}
        assert loads <= {"LDG.32", "LDG.64", "LDG.128"}
        assert "LDG.128" in loads
        # Of lanes that exchange values in a branch, of which NVRTC cannot see that all take it.
        assert not code.instructions["WARPSYNC"]
