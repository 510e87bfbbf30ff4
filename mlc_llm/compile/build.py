"""Compiling a model library: the whole way in one screen."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tvm

from mlc_llm.compile.compiler import find_compiler
from mlc_llm.compile.export import CacheKernels, add_repacking, export_model
from mlc_llm.compile.machine_code import generate_code
from mlc_llm.compile.metadata import add_texts, encode, metadata, record
from mlc_llm.compile.pipeline import pipeline
from mlc_llm.config import check_options, parse_options
from mlc_llm.errors import CompileError
from mlc_llm.model.causal_lm import CausalLM
from mlc_llm.model.stored import stored_parameters
from mlc_llm.plugin import (
    Architecture,
    AttentionKernels,
    AttentionSpec,
    Device,
    ModelSpec,
    Phase,
    Plan,
)
from mlc_llm.quantization.requirement import missing_schemes
from mlc_llm.weights.scratch import scratch_folder

_MOST_LINES, _MOST_CHARACTERS = 20, 4000
"""What of a linker's complaints is shown, from their end."""


def compile_library(
    spec: ModelSpec,
    architecture: Architecture,
    device: Device,
    target: Mapping[str, Any],
    output: Path,
) -> None:
    """Compile the library of ``spec`` and write it to ``output``, whole or not at all.

    LLVM ends this process when the disk is full; :mod:`mlc_llm.compile.child` keeps that off.

    Args:
        spec: what to compile.
        architecture: the architecture that ``spec`` names.
        device: the device to compile for.
        target: the TVM target, as the device gives it.
        output: the library's file, ``.so`` (``.dylib`` on macOS, ``.dll`` on Windows).

    Raises:
        CompileError: the device has no kernels for a scheme of the plan, there is no C compiler to
            link with, linking failed, or a kernel cannot be compiled.
        ConfigError: a compilation option is unknown.
    """
    _require_schemes(spec.plan, device)
    compiler = find_compiler()
    write_library(lower(spec, architecture, device, target), target, compiler, output)


def _require_schemes(plan: Plan, device: Device) -> None:
    if missing := missing_schemes(plan, device):
        raise CompileError(
            f"The device {device.name!r} has no kernels for weights in {' and in '.join(missing)}, "
            f"as the quantisation {plan.name} stores them.",
            code="quantization-unsupported",
        )


def write_library(
    module: tvm.IRModule, target: Mapping[str, Any], compiler: str, output: Path
) -> None:
    """Generate code for a module that :func:`lower` made, and link it.

    The library is made in a folder beside its final place, and then moved there.

    Args:
        module: the module.
        target: the TVM target that it was lowered for.
        compiler: the C compiler, from :func:`find_compiler`.
        output: the library's file.

    Raises:
        CompileError: a kernel cannot be compiled, or linking failed.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(output.parent) as folder:
        linked, objects = folder / output.name, folder / "objects"
        objects.mkdir()
        try:
            with with_host(target) as full:  # A GPU's compiler asks TVM for the target.
                executable, files = generate_code(module, full, objects)
            executable.export_library(
                str(linked), addons=list(map(str, files)), workspace_dir=str(folder), cc=compiler
            )
        except (RuntimeError, OSError) as error:
            raise CompileError(
                f"Linking {output} with {compiler} failed: {_linkers_words(error)}\nCheck that "
                "it links shared libraries, as `mlc_llm doctor` does, or name another in CXX."
            ) from error
        linked.replace(output)


def _linkers_words(error: Exception) -> str:
    """What the linker said last, without TVM's words around it and the command's thousand files."""
    text = str(error).partition("\nCommand line: ")[0].removeprefix("Compilation error:\n")
    return "\n".join(text.strip().splitlines()[-_MOST_LINES:])[-_MOST_CHARACTERS:]


def lower(
    spec: ModelSpec, architecture: Architecture, device: Device, target: Mapping[str, Any]
) -> tvm.IRModule:
    """The module that code is generated for: every function of the library, all passes run."""
    options = parse_options(spec.opt)
    check_options(options, device.options)
    codegen = device.codegen(target, options)
    config = architecture.config({"vocab_size": 1, "context_window_size": -1, **spec.shape})
    plan, dtype = spec.plan, spec.plan.dtype
    activation_dtype = codegen.activation_dtype(dtype)
    attention = architecture.attention(config)
    prefill: Phase = "decode" if spec.deterministic else "prefill"
    models: dict[Phase, CausalLM] = {}
    for phase in dict.fromkeys((prefill, "decode")):
        model = architecture.module(config)
        params = stored_parameters(model, plan)
        models[phase], steps = codegen.lower(model, plan, phase)

    @functools.cache
    def kernels(spec: AttentionSpec) -> AttentionKernels:
        return codegen.attention(spec, dtype, activation_dtype)

    cache = CacheKernels(attention, kernels, dtype)
    single = codegen.rows_agree or not spec.deterministic
    module, names = export_model(models, cache, prefill, single)
    steps.sort(key=lambda step: names.index(step.outputs[0]))
    module, repack = add_repacking(module, steps)
    module = add_texts(
        module,
        {
            "_metadata": encode(metadata(spec, config, attention, params, repack)),
            "_record": record(spec, device, target).embedded(),
        },
    )
    with with_host(target):
        return pipeline(codegen)(module)


def with_host(target: Mapping[str, Any]) -> tvm.target.Target:
    """The target; the code around a GPU's kernels runs on any CPU of this architecture."""
    if target["kind"] == "llvm":
        return tvm.target.Target(dict(target))
    return tvm.target.Target(dict(target), host={"kind": "llvm"})
