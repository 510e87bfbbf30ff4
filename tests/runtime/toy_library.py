"""A tiny attention model, compiled with TVM alone: the runtime's test double.

It follows the contract of a compiled library (``_metadata``, ``embed``, the passes over page
tensors and tables, a repacking function) and uses none of the project's compiler, so that it tests
the runtime by itself. :func:`reference_logits` computes the same in NumPy.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

HEADS, KV_HEADS, HEAD_DIM, LAYERS = 4, 2, 16, 2
PAGE = 16
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
        "tensor_parallel_shards": 1,
        "kv_cache_bytes": 0,
        "params": [
            {"name": name, "shape": shape, "dtype": "float32"}
            for name, shape in parameter_shapes().items()
        ],
        "kv_cache": {
            "dtype": "float32",
            "page_size": PAGE,
            "layers": [
                {
                    "query_heads": HEADS,
                    "kv_heads": KV_HEADS,
                    "key_size": HEAD_DIM,
                    "value_size": HEAD_DIM,
                }
            ]
            * LAYERS,
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

    builder = relax.BlockBuilder()
    kernels = {
        "append": builder.add_func(_append_kernel(), "append"),
        "attend": builder.add_func(_attend_kernel(), "attend"),
    }
    _add_embed(builder)
    for name in ("prefill", "replay", "score", "decode", "batch_decode"):
        _add_pass(builder, name, kernels)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(json.dumps(metadata())))
    _add_transpose(builder)
    executable = relax.build(builder.finalize(), target=tvm.target.Target("llvm"))
    executable.export_library(str(path))
    return path


def _parameter_variables() -> list[Any]:
    """The parameters as the kernels read them: the embedding as stored, the rest transposed."""
    from tvm import relax, tirx

    vocabulary = tirx.Var("vocab_size", "int64")
    shapes = [
        [vocabulary, HIDDEN] if name == "embed.weight" else shape[::-1]
        for name, shape in parameter_shapes().items()
    ]
    return [
        relax.Var(f"weight_{index}", relax.TensorType(shape, "float32"))
        for index, shape in enumerate(shapes)
    ]


def _add_embed(builder: Any) -> None:
    from tvm import relax, tirx

    weights = _parameter_variables()
    ids = relax.Var("ids", relax.TensorType([tirx.Var("n", "int64")], "int32"))
    packed = relax.Var("weights", relax.TupleType([weight.ty for weight in weights]))
    with builder.function("embed", [ids, packed]):
        with builder.dataflow():
            rows = builder.emit(
                relax.op.take(relax.TupleGetItem(packed, 0), ids, axis=0, mode="clip")
            )
            rows = builder.emit_output(rows)
        builder.emit_func_output(rows)


def _add_pass(builder: Any, name: str, kernels: dict[str, Any]) -> None:
    """One pass; ``score`` gives the logits of some rows, and prefills give their pages."""
    from tvm import relax, tirx

    n = tirx.IntImm("int64", 1) if name == "decode" else tirx.Var("n", "int64")
    count = tirx.Var("count", "int64")

    def variable(label: str, shape: list[Any], dtype: str) -> Any:
        return relax.Var(label, relax.TensorType(shape, dtype))

    def size(label: str) -> Any:
        return tirx.Var(label, "int64")

    ids = variable("ids", [n], "int32")
    wanted = [variable("rows", [size("r")], "int32")] if name == "score" else []
    positions, sequences = (variable(label, [n], "int32") for label in ("positions", "sequences"))
    table = variable("page_table", [size("s"), size("p")], "int32")
    reads = name in ("prefill", "score")
    starts = [variable("starts", [size("parts")], "int32")] if reads else []
    shape = [count, KV_HEADS, 2 * PAGE * HEAD_DIM]
    pages = [variable(f"pages_{layer}", shape, "float32") for layer in range(LAYERS)]
    embedding, *weights = _parameter_variables()
    arguments = [ids, *wanted, positions, sequences, table, *starts, *pages, embedding, *weights]
    with builder.function(name, arguments):
        with builder.dataflow():
            x = builder.emit(relax.op.take(embedding, ids, axis=0, mode="clip"))
            for layer in range(LAYERS):
                qkv = builder.emit(relax.op.matmul(x, weights[2 * layer]))
                appended = builder.emit(
                    relax.op.call_tir_inplace(
                        kernels["append"],
                        relax.Tuple([qkv, positions, sequences, table, pages[layer]]),
                        [4, -1],
                        [pages[layer].ty, relax.TensorType([n, HIDDEN], "float32")],
                    )
                )
                pages[layer] = builder.emit(relax.TupleGetItem(appended, 0))
                q = builder.emit(relax.TupleGetItem(appended, 1))
                attended = relax.call_tir(
                    kernels["attend"],
                    [q, positions, sequences, table, pages[layer]],
                    relax.TensorType([n, HIDDEN], "float32"),
                )
                attended = builder.emit(attended)
                projected = builder.emit(relax.op.matmul(attended, weights[2 * layer + 1]))
                x = builder.emit(relax.op.add(x, projected))
            if wanted:
                x = builder.emit(relax.op.take(x, wanted[0], axis=0, mode="clip"))
            logits = builder.emit(relax.op.matmul(x, relax.op.permute_dims(embedding)))
            gives_pages = name in ("prefill", "replay")
            result = builder.emit_output(relax.Tuple(pages) if gives_pages else logits)
        builder.emit_func_output(result)


def _kernel(name: str, body: Any) -> Any:
    """A PrimFunc whose arguments and loops ``body`` makes."""
    from tvm.script.ir_builder import IRBuilder
    from tvm.script.ir_builder import tirx as T

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})

        def argument(label: str, *shape: Any, dtype: str = "float32") -> Any:
            sizes = tuple(T.int64() if size is None else size for size in shape)
            return T.match_buffer(T.arg(label, T.handle()), sizes, dtype, elem_offset=T.int64())

        body(T, argument)
    return builder.get()


def _append_kernel() -> Any:
    """Rotate queries and keys, and put keys and values into their page."""

    def body(T: Any, argument: Any) -> None:
        n, half = T.int64(), HEAD_DIM // 2
        qkv = argument("qkv", n, (HEADS + 2 * KV_HEADS) * HEAD_DIM)
        positions = argument("positions", n, dtype="int32")
        sequences = argument("sequences", n, dtype="int32")
        table = argument("page_table", None, None, dtype="int32")
        pages = argument("pages", None, KV_HEADS, 2 * PAGE * HEAD_DIM)
        q = argument("q", n, HIDDEN)
        with T.serial(0, n) as s, T.serial(0, HEADS + 2 * KV_HEADS) as h, T.serial(0, half) as i:
            position = T.bind(positions[s])
            page = T.bind(table[sequences[s], T.truncdiv(position, PAGE)])
            slot = T.bind(T.truncmod(position, PAGE) * HEAD_DIM + i)
            frequency = T.exp(T.Cast("float32", i) * T.float32(-2 / HEAD_DIM * np.log(ROPE_BASE)))
            angle = T.bind(T.Cast("float32", position) * frequency)
            a = T.bind(qkv[s, h * HEAD_DIM + i])
            b = T.bind(qkv[s, h * HEAD_DIM + half + i])
            turned = T.bind(a * T.cos(angle) - b * T.sin(angle))
            other = T.bind(b * T.cos(angle) + a * T.sin(angle))
            with T.If(h < HEADS):
                with T.Then():
                    T.buffer_store(q, turned, [s, h * HEAD_DIM + i])
                    T.buffer_store(q, other, [s, h * HEAD_DIM + half + i])
                with T.Else(), T.If(h < HEADS + KV_HEADS):
                    with T.Then():
                        T.buffer_store(pages, turned, [page, h - HEADS, slot])
                        T.buffer_store(pages, other, [page, h - HEADS, slot + half])
                    with T.Else():
                        at = [page, h - HEADS - KV_HEADS, PAGE * HEAD_DIM + slot]
                        T.buffer_store(pages, a, at)
                        T.buffer_store(pages, b, [*at[:2], at[2] + half])

    return _kernel("append", body)


def _attend_kernel() -> Any:
    """Softmax over the keys up to each row's position, in three loops."""

    def body(T: Any, argument: Any) -> None:
        n = T.int64()
        q = argument("q", n, HIDDEN)
        positions = argument("positions", n, dtype="int32")
        sequences = argument("sequences", n, dtype="int32")
        table = argument("page_table", None, None, dtype="int32")
        pages = argument("pages", None, KV_HEADS, 2 * PAGE * HEAD_DIM)
        out = argument("out", n, HIDDEN)
        score, total, largest = (T.alloc_buffer((1,), "float32") for _ in range(3))

        def place(s: Any, h: Any, j: Any) -> tuple[Any, Any, Any]:
            """Where the key of a token is: page, head, and the first of its numbers."""
            page = T.bind(table[sequences[s], T.truncdiv(j, PAGE)])
            return page, T.truncdiv(h, HEADS // KV_HEADS), T.truncmod(j, PAGE) * HEAD_DIM

        def compute_score(s: Any, h: Any, j: Any) -> None:
            page, head, slot = place(s, h, j)
            T.buffer_store(score, T.float32(0), [0])
            with T.serial(0, HEAD_DIM) as i:
                product = q[s, h * HEAD_DIM + i] * pages[page, head, slot + i]
                T.buffer_store(score, score[0] + product * T.float32(SCALE), [0])

        with T.serial(0, n) as s, T.serial(0, HEADS) as h:
            with T.serial(0, HEAD_DIM) as i:
                T.buffer_store(out, T.float32(0), [s, h * HEAD_DIM + i])
            T.buffer_store(total, T.float32(0), [0])
            T.buffer_store(largest, T.float32(-1e30), [0])
            with T.serial(0, positions[s] + 1) as j:
                compute_score(s, h, j)
                T.buffer_store(largest, T.max(largest[0], score[0]), [0])
            with T.serial(0, positions[s] + 1) as j:
                compute_score(s, h, j)
                weight = T.bind(T.exp(score[0] - largest[0]))
                T.buffer_store(total, total[0] + weight, [0])
                page, head, slot = place(s, h, j)
                with T.serial(0, HEAD_DIM) as i:
                    value = weight * pages[page, head, PAGE * HEAD_DIM + slot + i]
                    at = [s, h * HEAD_DIM + i]
                    T.buffer_store(out, out[at[0], at[1]] + value, at)
            with T.serial(0, HEAD_DIM) as i:
                at = [s, h * HEAD_DIM + i]
                T.buffer_store(out, out[at[0], at[1]] / total[0], at)

    return _kernel("attend", body)


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
