"""Compiles a single module for a device and runs it: for tests of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.compile.build import with_host, write_library
from mlc_llm.compile.compiler import find_compiler
from mlc_llm.compile.export import Inputs, TracedModel, add_repacking
from mlc_llm.compile.pipeline import pipeline
from mlc_llm.errors import QuantizationError
from mlc_llm.model.module import Module, named_parameters
from mlc_llm.model.stored import StoredWeight, stored_weights
from mlc_llm.plugin import Device, Phase, Plan, Repack, Scheme
from mlc_llm.quantization.packing import dequantize, quantize
from mlc_llm.runtime.device_memory import WeightMemory, weight_memory
from mlc_llm.testing.random_weight import random_tensors

Array = npt.NDArray[Any]
Values = Mapping[str, Array]
"""Values of a module's parameters by their names."""


@dataclass(frozen=True)
class StoredValues:
    """Values of parameters as a plan stores them.

    Args:
        tensors: the stored tensors by the names that :func:`run_module` looks for.
        rounded: the values that come back from them, in float32, by the parameters' names.
    """

    tensors: Values
    rounded: Values


def store(module: Module, values: Values, plan: Plan) -> StoredValues:
    """Store values of a module's parameters.

    A weight in a scheme that it cannot be quantised to is a random one instead.

    Args:
        module: as it is declared.
        values: its parameters' values.
        plan: how they are stored.
    """
    holder, held = _Holder(module), _held(plan)
    weights = {weight.name: weight for weight in stored_weights(holder, held)}
    tensors: dict[str, Array] = {}
    rounded: dict[str, Array] = {}
    for full, parameter in named_parameters(holder).items():
        name = full.removeprefix(_PREFIX)
        if full in weights:
            rounded[name] = _store_weight(weights[full], values[name], tensors)
        else:
            tensors[full] = values[name].astype(parameter.dtype or plan.dtype)
            rounded[name] = tensors[full].astype(np.float32)
    return StoredValues(tensors, rounded)


def _store_weight(weight: StoredWeight, values: Array, tensors: dict[str, Array]) -> Array:
    """Store the parts of a weight, and give back what is stored."""
    sizes = [len(values)] if len(weight.parts) == 1 else [int(rows) for rows, _ in weight.parts]
    back, parts = [], np.split(values, np.cumsum(sizes)[:-1])
    for part, (_, scheme), named in zip(parts, weight.parts, weight.part_tensors, strict=True):
        stored = _stored(part, scheme)
        back.append(dequantize(stored, part.shape[1], scheme))
        tensors.update(zip((one.name for one in named), stored, strict=True))
    return np.concatenate(back)


def _stored(values: Array, scheme: Scheme) -> list[Array]:
    try:
        return quantize(values, scheme)
    except QuantizationError:
        rows, columns = values.shape
        return random_tensors(np.random.default_rng(rows), rows, columns, scheme)


def run_module(
    module: Module,
    method: Callable[[Module], Callable[..., Any]],
    inputs: Mapping[str, Array],
    stored: Values,
    device: Device,
    plan: Plan,
    folder: Path,
    *,
    phase: Phase = "decode",
    opt: Mapping[str, str] | None = None,
    rows: int | str = "n",
) -> Array:
    """Compile a module for a device's first adapter, run it, and return what it computes.

    Args:
        module: as it is declared; it is changed.
        method: given the lowered module, what is computed of the inputs.
        inputs: arrays whose first axis is the tokens; floats are given in the device's own dtype.
        stored: the stored tensors.
        device: the device.
        plan: how the parameters are stored.
        folder: where the library is put.
        phase: what the module is lowered for.
        opt: compilation options.
        rows: what the compiler knows of the number of tokens.
    """
    import tvm

    codegen = device.codegen(device.target(), opt or {})
    activation = codegen.activation_dtype(plan.dtype)
    given = {name: _in_dtype(array, activation) for name, array in inputs.items()}
    kinds = {name: ([rows, *a.shape[1:]], str(a.dtype)) for name, a in given.items()}
    lowered, steps = codegen.lower(_Holder(module), _held(plan), phase)
    exported, repacked = _exported(lowered, steps, kinds, method)
    with with_host(device.target()):
        exported = pipeline(codegen)(exported)
    path = folder / "module.so"
    write_library(exported, device.target(), find_compiler(), path)

    handle = device.open(0)
    machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(str(path)), handle)
    parameters = _loaded(machine, repacked, stored, weight_memory(handle))
    tensors = [tvm.runtime.tensor(array, handle) for array in given.values()]
    result: Array = machine["run"](*tensors, *parameters).numpy()
    return result


def _exported(
    lowered: Any, steps: list[Repack], kinds: Inputs, method: Callable[[Module], Callable[..., Any]]
) -> tuple[Any, list[dict[str, Any]]]:
    """The lowered module's function ``run``, and how its parameters are made, in their order."""
    from tvm import relax

    traced, builder = TracedModel(lowered), relax.BlockBuilder()
    traced.function(builder, "run", kinds, method(lowered.module))
    order = [place.name for place in traced.places]
    return add_repacking(
        builder.finalize(), sorted(steps, key=lambda step: order.index(step.outputs[0]))
    )


def _loaded(
    machine: Any, repacked: list[dict[str, Any]], stored: Values, memory: WeightMemory
) -> list[Any]:
    """The parameters as the kernels read them."""
    parameters: list[Any] = []
    for step in repacked:
        taken = [memory.keep(stored[name]) for name in step["inputs"]]
        if step["function"] is None:
            parameters += taken
            continue
        shapes = machine[f"{step['function']}_shapes"](*taken)
        made = [memory.empty(s, d) for s, d in zip(shapes, step["dtypes"], strict=True)]
        machine[step["function"]](*taken, *made)
        parameters += made
    return parameters


_PREFIX = "module."


class _Holder(Module):
    """A module that holds the one under test, which lowering may replace."""

    def __init__(self, module: Module) -> None:
        self.module = module


def _held(plan: Plan) -> Plan:
    """The plan for the module inside of its holder."""
    exceptions = {_PREFIX + name: schemes for name, schemes in plan.exceptions.items()}
    return plan.model_copy(update={"exceptions": exceptions})


def _in_dtype(array: Array, dtype: str) -> Array:
    return array.astype(dtype) if array.dtype.kind == "f" else array
