"""The compiled code of a bundle: kernels by name, and models of some shapes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu import instructions, kernel_cases
from benchmarks.gpu.cases import Case, kernel_of, scratch_of
from benchmarks.random_model import chat_config
from benchmarks.shapes import ModelShape
from mlc_llm.compile.child import compile_in_child
from mlc_llm.config import ModelFile
from mlc_llm.plugin import ModelSpec
from mlc_llm.quantization import folder_plan
from mlc_llm.registry.registry import default_registry
from mlc_llm.weights.scratch import scratch_folder

QUANTIZATION = "q4f16_1"


def write_kernels(
    path: Path, cases: Mapping[str, Case], columns: int, architectures: Sequence[str]
) -> None:
    """Compile the kernels of cases, those of :mod:`.instructions`, and the product that is timed.

    The scratch memory of those that need any is written beside the library.

    Args:
        path: the library's file.
        cases: of :mod:`.kernel_cases`.
        columns: of the product's weight.
        architectures: compute capabilities.
    """
    import tvm
    from mlc_llm_cuda import DEVICE

    target = DEVICE.target_for(architectures)
    codegen = DEVICE.codegen(target, {})
    models, warp = kernel_cases.ModelKernels(codegen), instructions.InstructionKernels()
    made: dict[str, Any] = {kernel_cases.PRODUCT: models.product(columns, False, "float16")}
    made |= {name: kernel_of(case, models) for name, case in cases.items()}
    made |= {name: kernel_of(case, warp) for name, case in instructions.CASES.items()}
    named = {name: kernel.with_attr("global_symbol", name) for name, kernel in made.items()}
    full = tvm.target.Target(target, host={"kind": "llvm"})
    with full:
        tvm.compile(tvm.IRModule(named), full).export_library(str(path))
    scratch = {name: scratch_of(case, models) for name, case in cases.items()}
    needed = {name: buffers for name, buffers in scratch.items() if buffers}
    path.with_name(kernel_cases.SCRATCH).write_text(json.dumps(needed), encoding="utf-8")


def write_model(path: Path, shape: ModelShape, architectures: Sequence[str]) -> None:
    """Compile the library of a shape; no weights are needed.

    Args:
        path: the library's file.
        shape: the model's.
        architectures: compute capabilities.
    """
    from mlc_llm_cuda import DEVICE

    file = ModelFile.model_validate_json(json.dumps(chat_config(shape, QUANTIZATION)))
    architecture = default_registry().architecture(file.model_type)
    spec = ModelSpec.of(file, architecture, folder_plan(file))
    with scratch_folder(path.parent) as work:
        compile_in_child(spec, "cuda", DEVICE.target_for(architectures), work).replace(path)
