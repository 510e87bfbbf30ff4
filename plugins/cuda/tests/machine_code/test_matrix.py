"""The machine code of whole models: every quantisation that GPUs take, and every GPU.

``make test-all`` compiles a model in every quantisation for 8.0 and 9.0, and one with a window, of
one layer: kernels do not depend on how many there are. ``make cuda-matrix`` compiles the shapes of
more models, for every compute capability.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from mlc_llm_cuda import DEVICE

from benchmarks.gpu.machine_code import Compiler, MachineCode
from benchmarks.random_model import chat_config
from benchmarks.shapes import SHAPES
from mlc_llm.quantization import PLANS
from mlc_llm.quantization.requirement import missing_schemes

from . import known
from .known import NARROW, SPILLS, expected

pytestmark = [pytest.mark.usefixtures("wheels"), pytest.mark.slow]

TAKEN = [name for name, plan in PLANS.items() if not missing_schemes(plan, DEVICE)]
OLDER, NEWER = ("75",), ("80", "86", "89", "90", "100", "120")
"""Kernels are chosen for the oldest GPU of a library: those before 8.0 have fewer."""

WIDE = re.compile("gemv|matmul|linear|attention_decode|attention_prefill")
"""Kernels whose time is that of their loads."""
NARROW_LOADS = {"LDG.8": 1, "LDG.16": 2, "LDGSTS.8": 1, "LDGSTS.16": 2}
"""Their bytes."""
MOST_NARROW = 1 / 16
"""The share of the bytes of loads that may be narrow: a thread adds its output's residual, once."""


class Cell(NamedTuple):
    """A model, and what it is compiled for."""

    shape: str
    quantization: str
    architectures: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.shape} {self.quantization} {'-'.join(self.architectures)}"


CELLS = [Cell("llama-2-7b", name, ("80", "90")) for name in TAKEN]
CELLS += [Cell("mistral-7b-v0.1", "q4f16_1", ("80", "90"))]
MATRIX = [Cell(shape, "q4f16_1", NEWER) for shape in sorted(known.SHAPES)]
MATRIX += [Cell("llama-2-7b", name, OLDER) for name in TAKEN]
MATRIX += [Cell("llama-2-7b", name, NEWER) for name in TAKEN if name != "q4f16_1"]


@pytest.mark.parametrize(
    "cell",
    [*CELLS, *(pytest.param(cell, marks=pytest.mark.cuda_matrix) for cell in MATRIX)],
    ids=str,
)
def test_kernels_keep_to_registers_and_load_widely(
    cell: Cell, compiler: Compiler, tmp_path: Path
) -> None:
    config = chat_config(replace(SHAPES[cell.shape], layers=1), cell.quantization)
    made = compiler.model(config, cell.architectures, tmp_path)
    for architecture in cell.architectures:
        codes = {kernel: code for (sm, kernel), code in made.items() if sm == f"sm_{architecture}"}
        assert codes, f"there is no code for {architecture}"
        for kernel, code in sorted(codes.items()):
            print(architecture, kernel, code.registers, "registers", code.length, "instructions")
            assert code.registers <= 255
        assert failures(codes) == expected(cell.shape, cell.quantization, architecture), (
            architecture
        )


def failures(codes: dict[str, MachineCode]) -> set[tuple[str, str]]:
    """What is wrong with kernels, as (kernel without numbers, failure)."""
    found = set()
    for kernel, code in codes.items():
        name = re.sub(r"\d*_kernel(_\d+)?$", "", kernel)
        if code.spilled or any(kind.startswith(("LDL", "STL")) for kind in code.instructions):
            found.add((name, SPILLS))
        narrow = sum(code.instructions[kind] * size for kind, size in NARROW_LOADS.items())
        if WIDE.search(name) and narrow > MOST_NARROW * code.loaded:
            found.add((name, NARROW))
    return found
