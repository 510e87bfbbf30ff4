"""Which kernels a target gets."""

from __future__ import annotations

import pytest
import tvm
from tvm.target import Target

from mlc_llm.device.cpu.kernels import isa
from mlc_llm.device.cpu.kernels.attention import decode
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.q4_linear import q4_linear

ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"kind": "llvm"}, isa.GENERIC),
        ({"kind": "llvm", "mcpu": "haswell"}, isa.AVX2),
        ({"kind": "llvm", "mcpu": "x86-64", "mattr": ["+avx2", "+fma"]}, isa.AVX2),
        ({"kind": "llvm", "mcpu": "skylake-avx512"}, isa.AVX512),
        ({"kind": "llvm", "mcpu": "cascadelake"}, isa.VNNI512),
        ({"kind": "llvm", "mcpu": "sapphirerapids"}, isa.VNNI512),
        ({"kind": "llvm", "mcpu": "sapphirerapids", "mattr": ["-avx512vnni"]}, isa.AVX512),
        (ARM, isa.NEON),
        ({"kind": "llvm", "mtriple": "arm64-apple-macosx11.0.0", "mcpu": "apple-m1"}, isa.NEON),
    ],
    ids=str,
)
def test_the_widest_that_every_such_cpu_runs(target, expected):
    assert Isa.of(Target(target)) == expected


@pytest.mark.parametrize("m", [1, None])
def test_linear_compiles_for_arm(m):
    target = Target(ARM)
    primfunc = q4_linear(64, 64, m, "float16", "float32", "float32", Isa.of(target))
    assert "fmla" in tvm.compile(primfunc, target).mod.inspect_source("asm")


def test_attention_compiles_for_arm():
    target = Target(ARM)
    primfunc = decode(2, 4, 64, "float16", Isa.of(target))
    assert "fmla" in tvm.compile(primfunc, target).mod.inspect_source("asm")
