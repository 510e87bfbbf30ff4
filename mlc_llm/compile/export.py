"""From a lowered ``nn.Module`` to an ``IRModule`` with the functions of a model library."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import tvm
from tvm import relax, tirx
from tvm.relax.frontend import nn

from mlc_llm.compile.kernel_call import add_kernel
from mlc_llm.compile.kv_cache import SIZES, create_kv_cache
from mlc_llm.model.layers import KVCache
from mlc_llm.plugin import AttentionKernels, ModelConfig, Repack


def export_model(
    model: nn.Module,
    config: ModelConfig,
    activation_dtype: str,
    kernels: AttentionKernels,
    kv_dtype: str,
) -> tuple[tvm.IRModule, list[str]]:
    """Trace the model's methods and the creation of its KV cache.

    A pass through the layers takes each of the model's parameters as an argument, after all others.
    To get one out of a tuple costs the virtual machine 0.1 microseconds, and a token needs hundreds
    of them. ``embed`` reads two at most, and takes all as a tuple.

    Returns:
        The module, and the names of the model's parameters in the order of ``params``.
    """
    hidden = config.hidden_size
    create = functools.partial(_create, config, kernels, kv_dtype)
    spec = {
        "embed": _method(model.embed, {"token_ids": nn.spec.Tensor(["n"], "int32")}, "packed"),
        "prefill": _step(model.prefill, (1, "n", hidden), activation_dtype),
        "decode": _step(model.decode, (1, 1, hidden), activation_dtype),
        "batch_prefill": _step(
            model.batch_prefill,
            (1, "n", hidden),
            activation_dtype,
            logit_positions=nn.spec.Tensor(["b"], "int32"),
        ),
        "batch_decode": _step(model.batch_decode, ("b", 1, hidden), activation_dtype),
        "create_tir_paged_kv_cache": nn.spec.MethodSpec(
            create, list(SIZES), [nn.spec.Int()] * len(SIZES), "none", "none"
        ),
    }
    module, named = model.export_tvm(
        spec=nn.spec.ModuleSpec(model, list(spec), list(spec.values())), allow_extern=False
    )
    return module, [name for name, _ in named]


def _create(
    config: ModelConfig, kernels: AttentionKernels, dtype: str, *sizes: tirx.Var
) -> nn.Object:
    return create_kv_cache(config, kernels, dtype, list(sizes))


def _method(method: object, inputs: dict[str, object], parameters: str) -> nn.spec.MethodSpec:
    """A function that takes the model's parameters last: as a tuple (packed), or each (plain)."""
    return nn.spec.MethodSpec(method, list(inputs), list(inputs.values()), parameters, "none")


def _step(
    method: object, shape: Sequence[int | str], dtype: str, **more: object
) -> nn.spec.MethodSpec:
    inputs = {"embeddings": nn.spec.Tensor(list(shape), dtype), **more}
    return _method(method, {**inputs, "kv_cache": nn.spec.Object(object_type=KVCache)}, "plain")


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
