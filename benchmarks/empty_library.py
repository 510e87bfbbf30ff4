"""A model library whose kernels do nothing, to measure what everything around them takes.

The virtual machine makes the same calls with the same tensors as in the library proper, and the
same weights are loaded. Only the output projection writes something: zeros, so that a token can be
chosen. What is generated makes no sense.

    python -m benchmarks.empty_library build/bench/smollm2-135m-q4f16_1 build/bench/empty.so
"""

from __future__ import annotations

import argparse
from pathlib import Path

import tvm
from tvm import tirx

from mlc_llm.compile.build import lower, write_library
from mlc_llm.compile.compiler import find_compiler
from mlc_llm.plugin import ModelSpec
from mlc_llm.quantization import folder_plan
from mlc_llm.registry.registry import default_registry
from mlc_llm.weights.folder import ModelFolder


def without_kernels(module: tvm.IRModule) -> tvm.IRModule:
    """The module with empty kernels; functions that compute shapes stay as they are."""
    nothing = tirx.Evaluate(tirx.IntImm("int32", 0))
    for variable, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc) and function.attrs.get("tirx.is_scheduled"):
            result = function.params[-1]
            body = _zeros(result) if _is_of_vocabulary(result) else nothing
            module.update_func(variable, function.with_body(body))
    return module


def _is_of_vocabulary(result: tirx.Var) -> bool:
    """Whether rows are as wide as the vocabulary, whose size a library does not know."""
    kind = result.ty
    return isinstance(kind, tirx.BufferType) and not isinstance(kind.shape[-1], tirx.IntImm)


def _zeros(buffer: tirx.Buffer) -> tirx.Stmt:
    """Loops that fill a buffer with zeros."""
    shape, dtype = buffer.ty.shape, str(buffer.ty.dtype)
    indices = [tirx.Var(f"i{axis}", extent.ty) for axis, extent in enumerate(shape)]
    body: tirx.Stmt = tirx.BufferStore(buffer, tirx.const(0, dtype), indices)
    for index, extent in reversed(list(zip(indices, shape, strict=True))):
        body = tirx.For(index, tirx.const(0, index.ty.dtype), extent, tirx.ForKind.SERIAL, body)
    return body


def compile_empty_library(model: Path, output: Path) -> None:
    """Compile the CPU's library of a model folder with empty kernels."""
    config = ModelFolder.open(model).config
    registry = default_registry()
    architecture = registry.architecture(config.model_type)
    device = registry.device("cpu")
    target = device.target()
    module = lower(
        ModelSpec.of(config, architecture, folder_plan(config)), architecture, device, target
    )
    write_library(without_kernels(module), target, find_compiler(), output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    compile_empty_library(arguments.model, arguments.output)


if __name__ == "__main__":
    main()
