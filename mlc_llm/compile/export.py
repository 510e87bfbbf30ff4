"""From a lowered ``nn.Module`` to an ``IRModule`` with the functions of a model library."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tvm
from tvm import relax, tirx
from tvm.relax.frontend import nn

from mlc_llm.compile.kv_cache import SIZES, add_kernel, create_kv_cache
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

    Returns:
        The module, and the names of the model's parameters in the order of ``params``.
    """
    hidden = config.hidden_size
    create = functools.partial(_create, config, kernels, kv_dtype)
    spec = {
        "embed": _method(model.embed, {"token_ids": nn.spec.Tensor(["n"], "int32")}),
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


def _method(method: object, inputs: dict[str, object]) -> nn.spec.MethodSpec:
    return nn.spec.MethodSpec(method, list(inputs), list(inputs.values()), "packed", "none")


def _step(
    method: object, shape: Sequence[int | str], dtype: str, **more: object
) -> nn.spec.MethodSpec:
    inputs = {"embeddings": nn.spec.Tensor(list(shape), dtype), **more}
    return _method(method, {**inputs, "kv_cache": nn.spec.Object(object_type=KVCache)})


def add_repacking(
    module: tvm.IRModule, steps: Sequence[Repack]
) -> tuple[tvm.IRModule, list[dict[str, object]]]:
    """Add one function for each different repacking kernel.

    Returns:
        The module, and the steps as they stand in the library's metadata: the function's name (or
        None), the stored parameters that it takes and the model's parameters that it gives.
    """
    builder = relax.BlockBuilder(module)
    names: dict[tirx.PrimFunc, str] = {}
    described: list[dict[str, object]] = []
    for step in steps:
        if step.kernel is not None and step.kernel not in names:
            names[step.kernel] = f"repack_{len(names)}"
            _add_repack(builder, names[step.kernel], step.kernel, len(step.inputs))
        function = names.get(step.kernel) if step.kernel is not None else None
        described.append(
            {"function": function, "inputs": list(step.inputs), "outputs": list(step.outputs)}
        )
    return builder.finalize(), described


def _add_repack(builder: relax.BlockBuilder, name: str, kernel: tirx.PrimFunc, taken: int) -> None:
    """A Relax function that calls ``kernel``, whose first ``taken`` buffers are its inputs."""
    buffers = [parameter.ty for parameter in kernel.params]
    inputs = [
        relax.Var(f"stored_{index}", _tensor_type(buffer))
        for index, buffer in enumerate(buffers[:taken])
    ]
    outputs = [_tensor_type(buffer) for buffer in buffers[taken:]]
    with builder.function(name, inputs):
        with builder.dataflow():
            variable = add_kernel(builder, kernel, f"{name}_kernel")
            packed = builder.emit_output(relax.call_tir(variable, inputs, outputs))
        builder.emit_func_output(packed)


def _tensor_type(buffer: tirx.BufferType) -> relax.TensorType:
    return relax.TensorType(buffer.shape, str(buffer.dtype))
