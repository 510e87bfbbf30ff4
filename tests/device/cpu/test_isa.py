"""Which kernels a target gets."""

from __future__ import annotations

import re

import pytest
from tvm.target import Target

from mlc_llm.compile.kernel_pipeline import compile_kernels
from mlc_llm.device.cpu.kernels import isa
from mlc_llm.device.cpu.kernels.attention import decode
from mlc_llm.device.cpu.kernels.group_layout import Part
from mlc_llm.device.cpu.kernels.group_linear import group_linear
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.rounding import TERMS
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.testing.paged_attention import describe

ARM = {"kind": "llvm", "mtriple": "aarch64-linux-gnu"}
DOTPROD = {**ARM, "mcpu": "generic", "mattr": ["+neon", "+dotprod"]}
X86 = {"kind": "llvm", "mtriple": "x86_64-unknown-linux-gnu"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"kind": "llvm"}, isa.GENERIC),
        ({"kind": "llvm", "mtriple": "riscv64-unknown-linux-gnu"}, isa.GENERIC),
        ({"kind": "llvm", "mcpu": "x86-64-v2"}, isa.SSE),
        ({"kind": "llvm", "mcpu": "haswell"}, isa.AVX2),
        ({"kind": "llvm", "mcpu": "x86-64", "mattr": ["+avx2", "+fma"]}, isa.AVX2),
        ({"kind": "llvm", "mcpu": "alderlake"}, isa.AVXVNNI),
        ({"kind": "llvm", "mcpu": "x86-64-v3", "mattr": ["+avxvnni"]}, isa.AVXVNNI),
        ({"kind": "llvm", "mcpu": "skylake-avx512"}, isa.AVX512),
        ({"kind": "llvm", "mcpu": "cascadelake"}, isa.VNNI512),
        ({"kind": "llvm", "mcpu": "sapphirerapids"}, isa.VNNI512),
        ({"kind": "llvm", "mcpu": "sapphirerapids", "mattr": ["-avx512vnni"]}, isa.AVX512),
        (ARM, isa.NEON),
        (DOTPROD, isa.DOTPROD),
        ({"kind": "llvm", "mtriple": "arm64-apple-macosx11.0.0", "mcpu": "apple-m1"}, isa.DOTPROD),
    ],
    ids=str,
)
def test_the_widest_that_every_such_cpu_runs(target, expected):
    assert Isa.of(Target(target)) == expected


def test_dot_products_fill_vectors():
    rows = [entry for entry in vars(isa).values() if isinstance(entry, Isa)]
    assert len(rows) >= 8
    for row in rows:
        assert row.dot.lanes == row.lanes


@pytest.mark.matrix
@pytest.mark.parametrize(("m", "activations"), [(1, "a16"), (None, "a8")])
@pytest.mark.parametrize(
    ("target", "instruction"),
    [
        (DOTPROD, r"sdot\s+v\d+\.4s, v\d+\.16b, v\d+\.4b\[\d\]"),  # by a lane, no copies
        (ARM, r"sm(?:lal|ull)2\s+v\d+\.8h, v\d+\.16b, v\d+\.16b"),
        ({**X86, "mcpu": "haswell"}, r"vpmaddubsw\s.*%ymm"),
        ({**X86, "mcpu": "x86-64-v3", "mattr": ["+avxvnni"]}, r"vpdpbusd\s.*%ymm"),
        ({**X86, "mcpu": "skylake-avx512"}, r"vpmaddubsw\s.*%zmm"),
        ({**X86, "mcpu": "cascadelake"}, r"vpdpbusd\s.*%zmm"),
        ({**X86, "mcpu": "x86-64-v2"}, r"pmaddubsw\s.*%xmm"),
    ],
    ids=["dotprod", "neon", "avx2", "avxvnni", "avx512", "vnni512", "sse"],
)
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_linear_multiplies_with_the_instruction_of_the_table(
    target, instruction, m, activations, bits
):
    target = Target(target)
    row = Isa.of(target)
    parts = (Part(64, Scheme(bits, "float16", 32, 2 ** (bits - 1) - 1)),)
    primfunc = group_linear(parts, 64, m, "float32", "float32", row, activations)
    found = re.findall(instruction, compile_kernels(primfunc, target).mod.inspect_source("asm"))
    # A step of the loop over groups: eight vectors of codes for every vector of rows and term of
    # an activation, twice where a whole byte is multiplied as two nibbles.
    digits = 1 if bits < 8 or row.dot.whole_bytes else 2
    assert len(found) >= 0.8 * 8 * digits * (32 // row.lanes) * TERMS[activations]


def test_attention_compiles_for_arm():
    target = Target(ARM)
    spec = describe((4, 2), 64)
    primfunc = decode(spec, "float16", "float32", Isa.of(target))
    assert "fmla" in compile_kernels(primfunc, target).mod.inspect_source("asm")
