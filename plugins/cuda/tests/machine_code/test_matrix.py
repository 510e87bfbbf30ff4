"""The machine code of whole models: every quantisation that GPUs take, and every GPU.

``make test-all`` compiles two families in every quantisation for 8.0 and 9.0, with few layers, on
which kernels do not depend. ``make cuda-matrix`` also compiles the shapes of real models, for every
compute capability.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from mlc_llm_cuda import DEVICE

from benchmarks.gpu.machine_code import MachineCode, model_code
from benchmarks.random_model import chat_config
from benchmarks.shapes import SHAPES
from mlc_llm.quantization import PLANS
from mlc_llm.quantization.requirement import missing_schemes

from .known import NARROW, SPILLS, expected

pytestmark = [pytest.mark.usefixtures("wheels"), pytest.mark.slow]

WHOLE = bool(os.environ.get("MLC_LLM_CUDA_MATRIX"))
"""Whether everything is compiled."""

TAKEN = [name for name, plan in PLANS.items() if not missing_schemes(plan, DEVICE)]
FAMILIES = {"llama": "llama-2-7b", "mistral": "mistral-7b-v0.1"}
OLDER, NEWER = ("75",), ("80", "86", "89", "90", "100", "120")
"""Kernels are chosen for the oldest GPU of a library: those before 8.0 have fewer."""

WIDE = re.compile("gemv|matmul|linear|attention_decode|attention_prefill")
"""Kernels whose time is that of their loads."""
NARROW_LOADS = ("LDG.8", "LDG.16", "LDGSTS.8", "LDGSTS.16")


class Cell(NamedTuple):
    """A model, and what it is compiled for."""

    shape: str
    quantization: str
    architectures: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.shape} {self.quantization} {'-'.join(self.architectures)}"


CELLS = [Cell(shape, name, ("80", "90")) for shape in FAMILIES.values() for name in TAKEN]
if WHOLE:
    models = ("llama-2-7b", "llama-3.1-8b", "mistral-7b-v0.1", "tinyllama-1.1b")
    CELLS += [Cell(shape, "q4f16_1", NEWER) for shape in models]
    CELLS += [Cell("llama-2-7b", name, OLDER) for name in TAKEN]
    CELLS += [Cell("llama-2-7b", name, NEWER) for name in TAKEN if name != "q4f16_1"]


@pytest.mark.parametrize(
    "cell", CELLS, ids=lambda c: f"{c.shape} {c.quantization} {c.architectures}"
)
def test_kernels_keep_to_registers_and_load_widely(
    cell: Cell, cuobjdump: Callable[..., str], tmp_path: Path
) -> None:
    config = chat_config(replace(SHAPES[cell.shape], layers=2), cell.quantization)
    made = model_code(config, cell.architectures, cuobjdump, tmp_path)
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
        if WIDE.search(name) and any(code.instructions[kind] for kind in NARROW_LOADS):
            found.add((name, NARROW))
    return found
