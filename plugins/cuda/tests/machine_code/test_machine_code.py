"""The machine code of the kernels in CUDA C: registers, spills, and the widths of loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlc_llm_cuda import DEVICE
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import linear, prefill_attention

from mlc_llm.compile.gpu.kernels.linear import Product
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.plugin import AttentionSpec
from mlc_llm.plugin.scheme import Scheme

from .reading import machine_code

pytestmark = pytest.mark.usefixtures("wheels")

CAPABILITIES = capabilities_of(DEVICE.target_for(["80", "90"]))
Q4 = Scheme(4, "float16", group=32, zero=7)


def q4_gemv(columns: int, out: str = "float16") -> Any:
    product = Product(weight_of(Q4, columns), None, "float16", out)
    return linear.gemv(product, CAPABILITIES)


def prefill(query_heads: int, kv_heads: int, size: int, **more: Any) -> Any:
    spec = AttentionSpec(query_heads, kv_heads, size, size, size**-0.5, **more)
    return prefill_attention.prefill(spec, "float16", "float16", CAPABILITIES)


KERNELS: dict[str, Callable[[], Any]] = {
    "q4_gemv 4096": lambda: q4_gemv(4096),
    "q4_gemv 11008 float32": lambda: q4_gemv(11008, "float32"),
    "q4_gemv 192": lambda: q4_gemv(192),
}

PREFILL: dict[str, Callable[[], Any]] = {
    "Llama 3.1 8B": lambda: prefill(32, 8, 128),
    "Llama 2 7B": lambda: prefill(32, 32, 128),
    "TinyLlama": lambda: prefill(32, 4, 64),
    "Qwen3 0.6B": lambda: prefill(16, 8, 128),
    "Phi 3 mini": lambda: prefill(32, 32, 96),
    "Gemma 2 2B": lambda: prefill(8, 4, 256, soft_cap=50.0),
    "gpt-oss": lambda: prefill(64, 8, 64, window=128, sink_logits=True),
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


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=[pytest.mark.slow] * (i > 0)) for i, k in enumerate(PREFILL)]
)
def test_prefill_multiplies_from_registers(
    name: str, cuobjdump: Callable[..., str], tmp_path: Path
) -> None:
    """Keys and values are copied 16 bytes at a time; a tile of them comes from shared memory in
    fewer instructions than multiply it, and nothing is spilled."""
    for key, code in machine_code(PREFILL[name](), cuobjdump, tmp_path).items():
        print(*key, code)
        made = code.instructions
        assert code.spilled == 0
        assert code.registers <= 65536 // 128 // 2
        assert made["LDGSTS.128"] > 0
        assert not made.keys() & {"LDG.16", "LDGSTS.32", "LDGSTS.64"}
        assert made["HMMA"] == 2 * made["LDSM"] > 0
