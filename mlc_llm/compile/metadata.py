"""What a library says of itself: metadata for the runtime, and a record for everybody else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import tvm
from tvm import relax

from mlc_llm.plugin import (
    PAGE_SIZE,
    AttentionSpec,
    Device,
    LibraryRecord,
    ModelConfig,
    ModelSpec,
)
from mlc_llm.plugin.scheme import StoredTensor
from mlc_llm.version import __version__, tvm_version


def metadata(
    spec: ModelSpec,
    config: ModelConfig,
    attention: Sequence[AttentionSpec],
    params: Sequence[StoredTensor],
    repack: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The object that the library's function ``_metadata`` returns as JSON.

    Keys that MLC's libraries have too mean the same here. A window's and a chunk's size are the
    model's own; what is in force is given at run time.
    """
    return {
        "model_type": spec.architecture,
        "quantization": spec.plan.name,
        "deterministic": spec.deterministic,
        "context_window_size": config.context_window_size,
        "sliding_window_size": config.sliding_window_size,
        "attention_sink_size": config.attention_sink_size,
        "prefill_chunk_size": config.prefill_chunk_size,
        "tensor_parallel_shards": 1,
        "kv_cache_bytes": 0,
        "params": [asdict(parameter) for parameter in params],
        "kv_cache": {
            "dtype": spec.plan.dtype,
            "page_size": PAGE_SIZE,
            "layers": [_described(layer) for layer in attention],
        },
        "repack": list(repack),
    }


def _described(layer: AttentionSpec) -> dict[str, Any]:
    """A layer's attention as it stands in the metadata: what its keys and values take and cost."""
    names = ("query_heads", "kv_heads", "key_size", "value_size", "window", "sink", "keys_of")
    return {name: getattr(layer, name) for name in names}


def record(spec: ModelSpec, device: Device, target: Mapping[str, Any]) -> LibraryRecord:
    """The record of a library compiled here and now."""
    return LibraryRecord(
        tvm=tvm_version(),
        project=__version__,
        spec=spec,
        device=device.name,
        target=dict(target),
        cpu_features=device.required_features(target),
    )


def add_texts(module: tvm.IRModule, texts: Mapping[str, str]) -> tvm.IRModule:
    """Add functions without arguments that return constant texts."""
    builder = relax.BlockBuilder(module)
    for name, text in texts.items():
        with builder.function(name, params=[]):
            builder.emit_func_output(tvm.ir.StringImm(text))
    return builder.finalize()


def encode(data: Mapping[str, Any]) -> str:
    """Metadata as text."""
    return json.dumps(data, separators=(",", ":"))
