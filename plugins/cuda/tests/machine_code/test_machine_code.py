"""The machine code of the kernels in CUDA C: registers, spills, and the widths of loads."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlc_llm_cuda import DEVICE
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import gemv, linear, matmul, prefill_attention

from benchmarks.gpu.machine_code import Compiler
from mlc_llm.compile.gpu.attention import append
from mlc_llm.compile.gpu.kernels.linear import Product
from mlc_llm.compile.gpu.kernels.norm import RMSNormKind
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.model.layers import ActivationName
from mlc_llm.plugin import AttentionSpec, Rope
from mlc_llm.plugin.scheme import Scheme

pytestmark = pytest.mark.usefixtures("wheels")

CAPABILITIES = capabilities_of(DEVICE.target_for(["80", "90"]))
Q4 = Scheme(4, "float16", group=32, zero=7)


def q4_gemv(columns: int, out: str = "float16", **more: Any) -> Any:
    product = Product(weight_of(Q4, columns), None, "float16", out, **more)
    return linear.gemv(product, CAPABILITIES)


NORM = RMSNormKind(1e-5, False, "float16")


def single(scheme: Scheme, columns: int) -> Any:
    return gemv.gemv(Product(weight_of(scheme, columns), 4096, "float16", "float16"), CAPABILITIES)


def many(scheme: Scheme, columns: int, gate: ActivationName | None = None) -> Any:
    product = Product(weight_of(scheme, columns), 4096, "float16", "float16", gate=gate)
    return matmul.matmul(product, CAPABILITIES)


def prefill(query_heads: int, kv_heads: int, size: int, **more: Any) -> Any:
    spec = AttentionSpec(query_heads, kv_heads, size, size, size**-0.5, **more)
    return prefill_attention.prefill(spec, "float16", "float16", CAPABILITIES)


KERNELS: dict[str, Callable[[], Any]] = {
    "q4_gemv 4096, norm, silu": lambda: q4_gemv(4096, norm=NORM, gate="silu"),
    "q4_gemv 4096": lambda: q4_gemv(4096),
    "q4_gemv 11008 float32": lambda: q4_gemv(11008, "float32"),
    "q4_gemv 192": lambda: q4_gemv(192),
    "one token, 8 bits": lambda: single(Scheme(8, "float16", group=32, zero=127), 4096),
    "one token, 4 bits, minimums": lambda: single(replace(Q4, zero=None), 4096),
    "one token, halves": lambda: single(Scheme(16, "float16"), 4096),
}

MATMULS: dict[str, Callable[[], Any]] = {
    "4 bits": lambda: many(Q4, 4096),
    "4 bits, silu": lambda: many(Q4, 4096, "silu"),
    "4 bits, columns that end within a step": lambda: many(Q4, 1048),
    "4 bits, transposed": lambda: many(replace(Q4, layout="columns"), 4096),
    "4 bits, minimums": lambda: many(replace(Q4, zero=None), 4096),
    "8 bits": lambda: many(Scheme(8, "float16", group=32, zero=127), 4096),
    "3 bits": lambda: many(Scheme(3, "float16", group=40, zero=3), 4096),
    "halves": lambda: many(Scheme(16, "float16"), 4096),
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


def one_is_quick(names: Iterable[str]) -> Any:
    """A test for each name, all but one of them slow."""
    marked = [pytest.param(n, marks=[pytest.mark.slow] * (i > 0)) for i, n in enumerate(names)]
    return pytest.mark.parametrize("name", marked)


@one_is_quick(KERNELS)
def test_registers_hold_everything_and_loads_are_wide(
    name: str, compiler: Compiler, tmp_path: Path
) -> None:
    made = compiler.kernel(KERNELS[name](), tmp_path)
    assert {architecture for architecture, _ in made} == {"sm_80", "sm_90"}
    for key, code in made.items():
        print(*key, code)
        assert code.spilled == 0
        loads = {kind for kind in code.instructions if kind.startswith("LDG.")}
        assert loads <= {"LDG.32", "LDG.64", "LDG.128"}
        assert "LDG.128" in loads
        # Of lanes that exchange values in a branch, of which NVRTC cannot see that all take it.
        assert not code.instructions["WARPSYNC"]


@pytest.mark.parametrize("more", [{}, {"norm": NORM}], ids=["plain", "norm"])
def test_weights_are_on_their_way_before_there_is_an_input(
    more: dict[str, Any], compiler: Compiler, tmp_path: Path
) -> None:
    """Four turns of two rows, and something of x."""
    for code in compiler.kernel(q4_gemv(4096, **more), tmp_path).values():
        assert code.begun["LDG.64"] == 8  # scales
        assert code.begun["LDG.128"] >= 8 + 1


def test_rotations_need_no_table(compiler: Compiler, tmp_path: Path) -> None:
    """CUDA's own sine keeps one in a thread's own memory, for angles that do not occur."""
    rope = Rope(tuple(0.8**i for i in range(64)))
    spec = AttentionSpec(32, 8, 128, 128, 128**-0.5, rope=rope)
    kernel = append(spec, "float16", "float16", CAPABILITIES)
    for code in compiler.kernel(kernel, tmp_path).values():
        assert code.spilled == 0


@one_is_quick(MATMULS)
def test_tensor_cores_have_work_for_each_instruction(
    name: str, compiler: Compiler, tmp_path: Path
) -> None:
    """A warp's product keeps the tensor cores of compute capability 9.0 busy for 4 clocks.

    (Of 8.0 for 8.) In the main loop of large tiles, no more instructions than that are issued.
    """
    made = compiler.kernel(MATMULS[name](), tmp_path)
    assert len(made) == 4  # a large and a small tile
    for key, code in made.items():
        print(*key, code)
        assert code.spilled == 0
        assert not [kind for kind in code.instructions if kind.startswith("LDG.")]
        assert code.loop["LDGSTS.128"] >= 4
        # Two blocks share a multiprocessor's 65536 registers.
        assert code.registers * matmul.THREADS * 2 <= 65536
    for architecture in ("sm_80", "sm_90"):
        loops = [code.loop for key, code in made.items() if key[0] == architecture]
        large = max(loops, key=lambda loop: loop["HMMA"])
        assert 4 * large["HMMA"] >= 0.95 * large.total()


@one_is_quick(PREFILL)
def test_prefill_multiplies_from_registers(name: str, compiler: Compiler, tmp_path: Path) -> None:
    """Keys and values are copied 16 bytes at a time; a tile of them comes from shared memory in
    fewer instructions than multiply it, and nothing is spilled."""
    for key, code in compiler.kernel(PREFILL[name](), tmp_path).items():
        print(*key, code)
        made = code.instructions
        assert code.spilled == 0
        assert code.registers <= 65536 // 128 // 2
        assert made["LDGSTS.128"] > 0
        assert not made.keys() & {"LDG.16", "LDGSTS.32", "LDGSTS.64"}
        assert made["HMMA"] == 2 * made["LDSM"] > 0


@pytest.mark.slow
def test_after_a_failure_the_compiler_goes_on(compiler: Compiler, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        compiler.model({"model_type": "llama"}, ["80"], tmp_path)
    assert compiler.kernel(q4_gemv(192), tmp_path)
