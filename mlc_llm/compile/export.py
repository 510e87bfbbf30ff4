"""From a lowered model to an ``IRModule`` with the functions of a model library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.frontend import nn

from mlc_llm.compile.kernel_call import add_kernel
from mlc_llm.compile.paged_cache import PagedCache, TracedTables, page_shapes
from mlc_llm.model.causal_lm import CausalLM
from mlc_llm.model.module import ModulePlace, Parameter, parameter_places
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase, Repack

Size = int | str
Inputs = Mapping[str, tuple[Sequence[Size], str]]
"""Shapes and dtypes of a function's arguments by their names."""


@dataclass(frozen=True)
class CacheKernels:
    """What the functions of a library need to know of the KV cache.

    Args:
        attention: how each layer attends.
        kernels: gives the device's kernels of a description.
        dtype: dtype of keys and values.
    """

    attention: Sequence[AttentionSpec]
    kernels: Callable[[AttentionSpec], AttentionKernels]
    dtype: str


def export_model(
    models: Mapping[Phase, CausalLM],
    cache: CacheKernels,
    prefill: Phase,
    single: bool,
) -> tuple[tvm.IRModule, list[str]]:
    """Trace the model's methods.

    A pass through the layers takes the token ids, the tables, the page tensors, and then each of
    the model's parameters. To get one out of a tuple costs the virtual machine 0.1 microseconds,
    and a token needs hundreds of them. ``embed`` reads two at most, and takes all as a tuple.

    Args:
        models: the lowered model of each phase, with the same parameters.
        cache: how the layers attend.
        prefill: the phase that prompts are computed in.
        single: whether ``decode`` may have kernels for a single row.

    Returns:
        The module, and the names of the model's parameters in the order of ``params``.
    """
    decoder, reader = TracedModel(models["decode"]), TracedModel(models[prefill])
    decodes, reads = _Pass(cache, "decode", ()), _Pass(cache, prefill, ("starts",))
    rows, builder = {"logit_rows": (["r"], "int32")}, relax.BlockBuilder()
    one = 1 if single else "n"
    decoder.function(builder, "embed", {"token_ids": (["n"], "int32")}, decoder.model.embed, True)
    for traced, name, way, method, count, more in (
        (reader, "prefill", reads, reader.model.prefill, "n", {}),
        (reader, "score", reads, reader.model.score, "n", rows),
        (decoder, "replay", decodes, decoder.model.prefill, "n", {}),
        (decoder, "decode", decodes, decoder.model.decode, one, {}),
        (decoder, "batch_decode", decodes, decoder.model.decode, "n", {}),
    ):
        traced.function(builder, name, *way.function(method, count, more))
    return builder.finalize(), [place.name for place in decoder.places]


class TracedModel:
    """A model whose methods become functions.

    Args:
        model: the lowered model; every parameter has a dtype.
    """

    def __init__(self, model: CausalLM) -> None:
        self.model = model
        self.places = list(parameter_places(model))
        self._declared: list[Parameter] = [place.get() for place in self.places]

    def function(
        self,
        builder: relax.BlockBuilder,
        name: str,
        inputs: Inputs,
        method: Callable[..., Any],
        packed: bool = False,
    ) -> None:
        """Add a function of some inputs and the model's parameters.

        Args:
            builder: where it is added.
            name: its name.
            inputs: what the method takes.
            method: computes tensors from tensors.
            packed: whether the parameters come as one tuple, and not each for itself.
        """
        sizes = _Sizes()
        given = [sizes.variable(name, *kind) for name, kind in inputs.items()]
        parameters = [
            sizes.variable(place.name, parameter.shape, str(parameter.dtype))
            for place, parameter in zip(self.places, self._declared, strict=True)
        ]
        taken = parameters
        if packed:
            taken = [relax.Var("params", relax.TupleType([one.ty for one in parameters]))]
        with builder.function(name, [*given, *taken], attrs={"num_input": len(given)}):
            with builder.dataflow():
                if packed:
                    items = [relax.TupleGetItem(taken[0], i) for i in range(len(parameters))]
                    parameters = [builder.emit(item) for item in items]
                with _standing(self.places, [nn.Tensor(_expr=one) for one in parameters]):
                    # What is computed when it is used still needs the parameters' tensors.
                    made = _expression(method(*(nn.Tensor(_expr=one) for one in given)))
                result = builder.emit_output(made)
            builder.emit_func_output(result)


class _Sizes:
    """The symbolic sizes of one function: one variable for each name."""

    def __init__(self) -> None:
        self._variables: dict[str, tirx.Var] = {}

    def variable(self, name: str, shape: Sequence[Size], dtype: str) -> relax.Var:
        """A function's parameter."""
        return relax.Var(name, relax.TensorType([self._size(size) for size in shape], dtype))

    def _size(self, size: Size) -> Any:
        if isinstance(size, int):
            return size
        return self._variables.setdefault(size, tirx.Var(size, "int64"))


@contextmanager
def _standing(places: Sequence[ModulePlace], tensors: Sequence[nn.Tensor]) -> Iterator[None]:
    """Put tensors in the place of declared parameters for a while."""
    declared = [place.get() for place in places]
    for place, tensor in zip(places, tensors, strict=True):
        place.put(tensor)
    try:
        yield
    finally:
        for place, parameter in zip(places, declared, strict=True):
            place.put(parameter)


def _expression(made: nn.Tensor | tuple[nn.Tensor, ...]) -> relax.Expr:
    if isinstance(made, tuple):
        return relax.Tuple([tensor._expr for tensor in made])
    return made._expr


@dataclass(frozen=True)
class _Pass:
    """A kind of pass through the layers.

    Args:
        cache: how the layers attend.
        phase: whose attention kernels are called.
        more_tables: tables besides those that every pass takes.
    """

    cache: CacheKernels
    phase: Phase
    more_tables: tuple[str, ...]

    def function(
        self, method: Callable[..., Any], rows: Size, more: Inputs
    ) -> tuple[Inputs, Callable[..., Any]]:
        """The inputs of a function, and what it computes of them.

        Args:
            method: takes token ids, what ``more`` names, and the KV cache.
            rows: how many tokens there are.
            more: what the method takes besides.
        """
        shapes: dict[str, list[Size]] = {"positions": [rows], "sequences": [rows]}
        shapes["page_table"] = ["sequences", "pages"]
        shapes |= {name: ["parts"] for name in self.more_tables}
        tables = {name: (shape, "int32") for name, shape in shapes.items()}
        pages: dict[str, tuple[list[Size], str]] = {
            f"pages_{i}": (["page_count", *shape], self.cache.dtype)
            for i, shape in enumerate(page_shapes(self.cache.attention))
        }

        def computed(token_ids: nn.Tensor, *given: nn.Tensor) -> Any:
            first, last = len(more), len(more) + len(tables)
            found = TracedTables(**dict(zip(tables, given[first:last], strict=True)))
            cache = PagedCache(
                self.cache.attention, self.cache.kernels, self.phase, found, given[last:]
            )
            return method(token_ids, *given[:first], cache)

        return {"token_ids": ([rows], "int32"), **more, **tables, **pages}, computed


def add_repacking(
    module: tvm.IRModule, steps: Sequence[Repack]
) -> tuple[tvm.IRModule, list[dict[str, Any]]]:
    """Add two functions for each different repacking kernel.

    ``repack_N`` takes stored parameters and then the tensors that it fills; ``repack_N_shapes``
    takes the stored parameters and returns the shapes of those tensors.

    Returns:
        The module, and the steps as they stand in the library's metadata: the function's name (or
        None), the stored parameters that it takes, and the model's parameters that it makes with
        their dtypes.
    """
    builder = relax.BlockBuilder(module)
    names: dict[tirx.PrimFunc, str] = {}
    described: list[dict[str, Any]] = []
    for step in steps:
        if step.kernel is not None and step.kernel not in names:
            names[step.kernel] = f"repack_{len(names)}"
            _add_repack(builder, names[step.kernel], step.kernel, len(step.inputs))
        described.append(_described(step, names))
    return builder.finalize(), described


def _described(step: Repack, names: Mapping[tirx.PrimFunc, str]) -> dict[str, Any]:
    """A step as it stands in the metadata."""
    inputs, outputs = list(step.inputs), list(step.outputs)
    if step.kernel is None:
        return {"function": None, "inputs": inputs, "outputs": outputs, "dtypes": []}
    made = [str(parameter.ty.dtype) for parameter in step.kernel.params[len(inputs) :]]
    function = names[step.kernel]
    return {"function": function, "inputs": inputs, "outputs": outputs, "dtypes": made}


def _add_repack(builder: relax.BlockBuilder, name: str, kernel: tirx.PrimFunc, taken: int) -> None:
    """The two functions of ``kernel``, whose first ``taken`` buffers are its inputs."""
    types = [_tensor_type(parameter.ty) for parameter in kernel.params]
    given, made = types[:taken], types[taken:]
    with builder.function(f"{name}_shapes", _variables(given)):
        builder.emit_func_output(relax.Tuple([kind.shape for kind in made]))
    tensors = _variables(types)
    with builder.function(name, tensors):
        with builder.dataflow():
            variable = add_kernel(builder, kernel, f"{name}_kernel")
            places = list(range(taken, len(types)))
            filled = relax.op.call_tir_inplace(variable, relax.Tuple(tensors), places, made)
            packed = builder.emit_output(filled)
        builder.emit_func_output(packed)


def _variables(types: Sequence[relax.TensorType]) -> list[relax.Var]:
    return [relax.Var(f"tensor_{index}", kind) for index, kind in enumerate(types)]


def _tensor_type(buffer: tirx.BufferType) -> relax.TensorType:
    return relax.TensorType(buffer.shape, str(buffer.dtype))
