"""From a lowered ``nn.Module`` to an ``IRModule`` with the functions of a model library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, tirx
from tvm.relax.frontend import nn

from mlc_llm.compile.kernel_call import add_kernel
from mlc_llm.compile.paged_cache import PagedCache, Tables, page_shapes
from mlc_llm.plugin import AttentionKernels, AttentionSpec, Phase, Repack


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
    models: Mapping[Phase, nn.Module],
    cache: CacheKernels,
    prefill: Phase,
    single: bool,
) -> tuple[tvm.IRModule, list[str]]:
    """Trace the model's methods.

    A pass through the layers takes the token ids, the tables, the page tensors, and then each of
    the model's parameters. To get one out of a tuple costs the virtual machine 0.1 microseconds,
    and a token needs hundreds of them. ``embed`` reads two at most, and takes all as a tuple.

    Args:
        models: the lowered model of each phase.
        cache: how the layers attend.
        prefill: the phase that prompts are computed in.
        single: whether ``decode`` may have kernels for a single row.

    Returns:
        The module, and the names of the model's parameters in the order of ``params``.
    """
    decoder, reader = models["decode"], models[prefill]
    share_parameters(decoder, reader)

    decodes, reads = _Pass(cache, "decode", ()), _Pass(cache, prefill, ("starts",))
    spec = {
        "embed": _method(decoder.embed, {"token_ids": nn.spec.Tensor(["n"], "int32")}, "packed"),
        "prefill": reads.spec(reader.prefill, "n"),
        "score": reads.spec(reader.score, "n", logit_rows=nn.spec.Tensor(["r"], "int32")),
        "replay": decodes.spec(decoder.prefill, "n"),
        "decode": decodes.spec(decoder.decode, 1 if single else "n"),
        "batch_decode": decodes.spec(decoder.decode, "n"),
    }
    module, named = decoder.export_tvm(
        spec=nn.spec.ModuleSpec(decoder, list(spec), list(spec.values())), allow_extern=False
    )
    return module, [name for name, _ in named]


def share_parameters(model: nn.Module, other: nn.Module) -> None:
    """Give ``other`` the parameters of ``model``, which has the same under the same names."""
    for name, parameter in model.named_parameters():
        *path, last = name.split(".")
        owner: Any = other
        for part in path:
            owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
        setattr(owner, last, parameter)


def _method(method: object, inputs: dict[str, object], parameters: str) -> nn.spec.MethodSpec:
    """A function that takes the model's parameters last: as a tuple (packed), or each (plain)."""
    return nn.spec.MethodSpec(method, list(inputs), list(inputs.values()), parameters, "none")


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

    def spec(
        self, method: Callable[..., Any], rows: int | str, **more: nn.spec.Tensor
    ) -> nn.spec.MethodSpec:
        """A function of token ids, what else the method takes, tables, pages and parameters."""
        token_ids = nn.spec.Tensor([rows], "int32")
        shapes = {"positions": [rows], "sequences": [rows], "page_table": ["sequences", "pages"]}
        shapes |= {name: ["parts"] for name in self.more_tables}
        tables = {name: nn.spec.Tensor(shape, "int32") for name, shape in shapes.items()}
        pages = {
            f"pages_{i}": nn.spec.Tensor(["page_count", *shape], self.cache.dtype)
            for i, shape in enumerate(page_shapes(self.cache.attention))
        }

        def traced(token_ids: nn.Tensor, *given: nn.Tensor) -> Any:
            first, last = len(more), len(more) + len(tables)
            found = Tables(**dict(zip(tables, given[first:last], strict=True)))
            cache = PagedCache(
                self.cache.attention, self.cache.kernels, self.phase, found, given[last:]
            )
            return method(token_ids, *given[:first], cache)

        return _method(traced, {"token_ids": token_ids, **more, **tables, **pages}, "plain")


def add_repacking(
    module: tvm.IRModule, steps: Sequence[Repack]
) -> tuple[tvm.IRModule, list[dict[str, object]]]:
    """Add two functions for each different repacking kernel.

    ``repack_N`` takes stored parameters and then the tensors that it fills; ``repack_N_shapes``
    takes the stored parameters and returns the shapes that those tensors are to have.

    Returns:
        The module, and the steps as they stand in the library's metadata: the function's name (or
        None), the stored parameters that it takes, and the model's parameters that it makes with
        their dtypes.
    """
    builder = relax.BlockBuilder(module)
    names: dict[tirx.PrimFunc, str] = {}
    described: list[dict[str, object]] = []
    for step in steps:
        if step.kernel is not None and step.kernel not in names:
            names[step.kernel] = f"repack_{len(names)}"
            _add_repack(builder, names[step.kernel], step.kernel, len(step.inputs))
        described.append(_described(step, names))
    return builder.finalize(), described


def _described(step: Repack, names: Mapping[tirx.PrimFunc, str]) -> dict[str, object]:
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
