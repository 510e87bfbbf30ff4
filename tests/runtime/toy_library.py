"""A tiny attention model, compiled with TVM's own kernels: the runtime's test double.

It follows the contract of a compiled library (``_metadata``, ``embed``, ``prefill``, ``decode``,
``create_tir_paged_kv_cache``, a repacking function) and none of the project's compiler, so that it
tests the runtime by itself. :func:`reference_logits` computes the same in NumPy.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

HEADS, KV_HEADS, HEAD_DIM, LAYERS = 4, 2, 16, 2
HIDDEN = HEADS * HEAD_DIM
VOCAB = 48
PADDED_VOCAB = 64
ROPE_BASE = 100.0
SCALE = HEAD_DIM**-0.5


def parameter_shapes() -> dict[str, list[int | str]]:
    """The stored parameters; the vocabulary's size is symbolic."""
    shapes: dict[str, list[int | str]] = {"embed.weight": ["vocab_size", HIDDEN]}
    for layer in range(LAYERS):
        shapes[f"layers.{layer}.qkv.weight"] = [(HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN]
        shapes[f"layers.{layer}.out.weight"] = [HIDDEN, HIDDEN]
    return shapes


def parameters(seed: int = 0) -> dict[str, np.ndarray]:
    """Random stored parameters."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(
            0, 0.3, [PADDED_VOCAB if s == "vocab_size" else int(s) for s in shape]
        ).astype(np.float32)
        for name, shape in parameter_shapes().items()
    }


def metadata() -> dict[str, Any]:
    """What the library says of itself. The embedding is stored as it is, the rest transposed."""
    return {
        "model_type": "toy",
        "quantization": "q0f32",
        "context_window_size": 96,
        "sliding_window_size": -1,
        "attention_sink_size": -1,
        "prefill_chunk_size": 32,
        "tensor_parallel_shards": 1,
        "kv_cache_bytes": 0,
        "memory_usage": {"prefill": 1 << 16},
        "params": [
            {"name": name, "shape": shape, "dtype": "float32"}
            for name, shape in parameter_shapes().items()
        ],
        "kv_cache": {
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS,
            "head_dim": HEAD_DIM,
            "dtype": "float32",
            "page_size": 16,
        },
        "repack": [
            {
                "function": None if name == "embed.weight" else "transpose",
                "inputs": [name],
                "outputs": [name],
                "dtypes": [] if name == "embed.weight" else ["float32"],
            }
            for name in parameter_shapes()
        ],
    }


def with_sliding_window(library: Path, path: Path, size: int) -> Path:
    """Write a copy whose metadata says it has a window of 10 to 99 tokens; the code is the same."""
    said, wanted = (json.dumps({"sliding_window_size": n})[1:-1].encode() for n in (-1, size))
    assert len(said) == len(wanted)
    content = library.read_bytes()
    assert content.count(said) == 1
    path.write_bytes(content.replace(said, wanted))
    return path


def renamed(library: bytes, function: str) -> bytes:
    """The library with another name for one of the virtual machine's functions."""
    # A serialised string stands behind its length, in 8 bytes.
    name = len(function).to_bytes(8, "little") + function.encode()
    assert name in library
    return library.replace(name, name[:-1] + b"_")


def compile_toy(path: Path) -> Path:
    """Compile the library and write it to ``path``."""
    import tvm
    from tvm import relax
    from tvm.relax.frontend import nn
    from tvm.relax.frontend.nn import op
    from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache, RopeMode, TIRPagedKVCache

    target = tvm.target.Target("llvm")
    heads = HEADS + 2 * KV_HEADS

    class Layer(nn.Module):
        def __init__(self) -> None:
            # Stored (out, in) and transposed by the repacking function.
            self.qkv = nn.Parameter((HIDDEN, heads * HEAD_DIM), "float32")
            self.out = nn.Parameter((HIDDEN, HIDDEN), "float32")

        def forward(self, x: nn.Tensor, kv_cache: PagedKVCache, layer: int) -> nn.Tensor:
            batch, tokens, _ = x.shape
            qkv = op.reshape(op.matmul(x, self.qkv), (batch, tokens, heads, HEAD_DIM))
            attended = kv_cache.attention_with_fused_qkv(layer, qkv, HEADS, SCALE)
            return x + op.matmul(op.reshape(attended, (batch, tokens, HIDDEN)), self.out)

    class Model(nn.Module):
        def __init__(self) -> None:
            self.embedding = nn.Parameter(("vocab_size", HIDDEN), "float32")
            self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])

        def embed(self, token_ids: nn.Tensor) -> nn.Tensor:
            return op.take(self.embedding, token_ids, axis=0)

        def run(
            self, embeddings: nn.Tensor, kv_cache: PagedKVCache
        ) -> tuple[nn.Tensor, PagedKVCache]:
            x = embeddings
            for index, layer in enumerate(self.layers):
                x = layer(x, kv_cache, index)

            def last(x: Any) -> Any:
                return tvm.te.compute((1, 1, HIDDEN), lambda b, _, k: x[b, x.shape[1] - 1, k])

            x = op.tensor_expr_op(last, "last", [x])
            return op.matmul(x, op.permute_dims(self.embedding)), kv_cache

        prefill = run
        decode = run

        def create_tir_paged_kv_cache(self, *sizes: Any) -> PagedKVCache:
            return TIRPagedKVCache(
                "mha",
                *sizes,
                layer_partition=relax.ShapeExpr([0, LAYERS]),
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                num_key_value_heads=KV_HEADS,
                qk_head_dim=HEAD_DIM,
                v_head_dim=HEAD_DIM,
                mla_original_qk_head_dim=0,
                mla_original_v_head_dim=0,
                rope_mode=RopeMode.NORMAL,
                rope_scale=1,
                rope_theta=ROPE_BASE,
                rope_scaling={},
                rope_ext_factors=relax.prim_value(0),
                rotary_dim=HEAD_DIM,
                enable_disaggregation=False,
                dtype="float32",
                target=target,
            )

    model = Model()
    step = lambda method, n: nn.spec.MethodSpec(  # noqa: E731
        method,
        ["embeddings", "kv_cache"],
        [nn.spec.Tensor([1, n, HIDDEN], "float32"), nn.spec.Object(object_type=PagedKVCache)],
        "plain",
        "none",
    )
    sizes = ["batch", "total", "chunk", "page", "sliding"]
    spec = nn.spec.ModuleSpec(
        model,
        ["embed", "prefill", "decode", "create_tir_paged_kv_cache"],
        [
            nn.spec.MethodSpec(
                model.embed, ["token_ids"], [nn.spec.Tensor(["n"], "int32")], "packed", "none"
            ),
            step(model.prefill, "n"),
            step(model.decode, 1),
            nn.spec.MethodSpec(
                model.create_tir_paged_kv_cache, sizes, [nn.spec.Int()] * 5, "none", "none"
            ),
        ],
    )
    module, _ = model.export_tvm(spec=spec)
    builder = relax.BlockBuilder(module)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(json.dumps(metadata())))
    _add_transpose(builder)
    executable = relax.build(builder.finalize(), target=target)
    executable.export_library(str(path))
    return path


def _add_transpose(builder: Any) -> None:
    """The repacking function, and the one that says the shape of what it makes."""
    import tvm
    from tvm import relax

    rows = tvm.tirx.Var("n", "int64")
    source = tvm.te.placeholder((rows, HIDDEN), "float32", "source")
    turned = tvm.te.compute((HIDDEN, rows), lambda i, j: source[j, i], "turned")
    kernel = builder.add_func(tvm.te.create_prim_func([source, turned]), "transpose_kernel")
    given = relax.TensorType([rows, HIDDEN], "float32")
    made = relax.TensorType([HIDDEN, rows], "float32")
    with builder.function("transpose_shapes", [relax.Var("stored", given)]):
        builder.emit_func_output(relax.Tuple([made.shape]))
    tensors = [relax.Var("stored", given), relax.Var("packed", made)]
    with builder.function("transpose", tensors):
        with builder.dataflow():
            filled = relax.op.call_tir_inplace(kernel, relax.Tuple(tensors), [1], [made])
            packed = builder.emit_output(filled)
        builder.emit_func_output(packed)


def write_folder(path: Path, **config: Any) -> Path:
    """Write a model folder with random weights; ``config`` overrides ``mlc-chat-config.json``."""
    path.mkdir(parents=True, exist_ok=True)
    stored = parameters()
    offset, records = 0, []
    for name, array in stored.items():
        records.append(
            {
                "name": name,
                "shape": list(array.shape),
                "dtype": "float32",
                "format": "raw",
                "nbytes": array.nbytes,
                "byteOffset": offset,
            }
        )
        offset += array.nbytes
    shard = b"".join(array.tobytes() for array in stored.values())
    (path / "params_shard_0.bin").write_bytes(shard)
    record = {
        "dataPath": "params_shard_0.bin",
        "format": "raw-shard",
        "nbytes": offset,
        "md5sum": hashlib.md5(shard).hexdigest(),
        "records": records,
    }
    manifest = {"metadata": {"ParamSize": len(records)}, "records": [record]}
    (path / "tensor-cache.json").write_text(json.dumps(manifest))
    chat = {
        "model_type": "toy",
        "quantization": "q0f32",
        "model_config": {},
        "vocab_size": VOCAB,
        "context_window_size": 96,
        "prefill_chunk_size": 32,
        "conv_template": "LM",
        **config,
    }
    (path / "mlc-chat-config.json").write_text(json.dumps(chat))
    return path


def reference_logits(ids: list[int]) -> np.ndarray:
    """The logits after ``ids``, computed in NumPy with full attention: float32 (VOCAB,)."""
    stored = {name: array.astype(np.float64) for name, array in parameters().items()}
    x = stored["embed.weight"][ids]
    positions = np.arange(len(ids))
    frequency = ROPE_BASE ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = (f(positions[:, None] * frequency)[:, None] for f in (np.cos, np.sin))
    causal = np.where(positions[:, None] >= positions[None], 0, -np.inf)

    def rotate(heads: np.ndarray) -> np.ndarray:
        a, b = np.split(heads, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    for layer in range(LAYERS):
        qkv = x @ stored[f"layers.{layer}.qkv.weight"].T
        q, k, v = np.split(qkv.reshape(len(ids), -1, HEAD_DIM), [HEADS, HEADS + KV_HEADS], axis=1)
        q, k = rotate(q), rotate(k)
        k, v = (np.repeat(heads, HEADS // KV_HEADS, axis=1) for heads in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) * SCALE + causal
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        attended = np.einsum("hqk,khd->qhd", weights, v).reshape(len(ids), HIDDEN)
        x = x + attended @ stored[f"layers.{layer}.out.weight"].T
    return (x[-1] @ stored["embed.weight"].T)[:VOCAB].astype(np.float32)
