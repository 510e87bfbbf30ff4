"""The steps that measure models: prefill and decode, and where the time of a token goes.

Weights are random and are made on the GPU: a block of random words is copied again and again, and
the scales are as large as those of a trained model. What the models say makes no sense.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.device import Record, device, graphs
from benchmarks.shapes import ModelShape
from mlc_llm.cli.bench.work import WorkModel
from mlc_llm.runtime.captured_pass import Capture, no_capture
from mlc_llm.runtime.compiled_library import CompiledLibrary
from mlc_llm.runtime.context_window import ContextWindow
from mlc_llm.runtime.loaded_model import LoadedModel
from mlc_llm.runtime.model_functions import ModelFunctions
from mlc_llm.runtime.profile import time_alike

BLOCK_BYTES = 1 << 24
SCALE = 0.02 / 4.3
"""Of codes from 0 to 15 around 7: weights then have a standard deviation of 0.02."""
BYTES_A_WEIGHT = (4 + 16 / 32) / 8
"""Of ``q4f16_1``: a code, and a share of a scale."""
CHUNK = 2048


def speed(bundle: Path, contents: dict[str, Any], name: str) -> Iterator[Record]:
    """Seconds of prefills, and of tokens after contexts of several lengths."""
    rows, shape = contents["rows"], ModelShape(**contents["models"][name])
    gpu = device()
    size = max(rows["contexts"]) + rows["steps"] + 1
    captured: list[Callable[[], None] | None] = []

    def capture(work: Callable[[], None]) -> Callable[[], None] | None:
        captured.append(graphs(gpu)(work))
        return captured[-1]

    model = _open(gpu, bundle, name, shape, size, capture)
    yield {"what": f"{name}: window", "value": model.window.size, "unit": "tokens"}
    ids = _ids(shape, model.window.size)
    _prefill(model, ids[: rows["prompts"][0]])
    _decode(model, 4)
    yield {"what": f"{name}: a token is one CUDA graph", "ok": any(captured)}
    for length in rows["prompts"]:
        times = [_prefill(model, ids[:length]) for _ in range(3)]
        seconds = statistics.median(times)
        work = 2 * shape.linear_parameters * length
        yield {
            "what": f"{name}: prefill {length}",
            "value": length / seconds,
            "unit": "tok/s",
            "operations_per_second": work / seconds,
        }
    model.reset()
    for length in rows["contexts"]:
        if length + rows["steps"] > model.window.size:
            yield {"what": f"{name}: decode at {length}", "note": "it does not fit into the memory"}
            continue
        model.prefill(ids[model.length : length])
        seconds = _decode(model, rows["steps"])
        moved = shape.linear_parameters * BYTES_A_WEIGHT + length * shape.kv_elements * 2
        yield {
            "what": f"{name}: decode at {length}",
            "value": 1 / seconds,
            "unit": "tok/s",
            "bytes_per_second": moved / seconds,
        }


def profile(bundle: Path, contents: dict[str, Any], name: str) -> Iterator[Record]:
    """The kernels of one token, and of one prefill."""
    rows, shape = contents["rows"], ModelShape(**contents["models"][name])
    context, prompt = rows["contexts"][-2], rows["prompts"][-2]
    model = _open(device(), bundle, name, shape, context + prompt + 1)
    ids = _ids(shape, context + prompt)
    model.prefill(ids[:context])
    yield {
        "what": f"{name}: decode at {context}, kernel by kernel",
        "value": 1 / _decode(model, rows["steps"]),
        "unit": "tok/s",
    }
    yield from _kernels(model, f"{name}: a token at {context}", lambda: model.decode(1))
    model.reset()
    yield from _kernels(model, f"{name}: prefill {prompt}", lambda: model.prefill(ids[:prompt]))


def _kernels(model: LoadedModel, what: str, run: Any) -> Iterator[Record]:
    work = WorkModel(model.metadata, model.vocab_size)
    seconds: dict[str, float] = defaultdict(float)
    moved: dict[str, float] = defaultdict(float)
    done: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for call in time_alike(model, run, 3):
        one = work.of(call)
        seconds[one.kernel] += call.seconds
        moved[one.kernel] += one.bytes
        done[one.kernel] += one.operations or 0
        calls[one.kernel] += 1
    for kernel in sorted(seconds, key=lambda kernel: -seconds[kernel]):
        yield {
            "what": f"{what}: {calls[kernel]} x {kernel}",
            "value": seconds[kernel] * 1e6,
            "unit": "us",
            "bytes_per_second": moved[kernel] / seconds[kernel],
            "operations_per_second": done[kernel] / seconds[kernel],
        }


def _open(
    gpu: Any, bundle: Path, name: str, shape: ModelShape, size: int, capture: Capture = no_capture
) -> LoadedModel:
    """The model with random weights, and with a smaller window where the memory is full."""
    library = CompiledLibrary(bundle / "libraries" / f"{name}.so", gpu)
    parameters = random_parameters(library, shape.vocab, gpu)
    functions = ModelFunctions(library, parameters, gpu, shape.vocab, capture)
    while True:
        window = ContextWindow(size, min(CHUNK, size))
        try:
            return LoadedModel(library, functions, window, shape.vocab, gpu)
        except Exception:
            if size <= 256:
                raise
            size //= 2


def random_parameters(library: CompiledLibrary, vocab: int, gpu: Any) -> Any:
    """The weights that a library takes, made on the GPU.

    Args:
        library: the library; it must take tensors as they are stored.
        vocab: rows of the tables of tokens.
        gpu: TVM's device.
    """
    import tvm_ffi
    from tvm.runtime import empty, tensor

    rng = np.random.default_rng(0)
    halves = BLOCK_BYTES // 2
    blocks = {
        "uint32": rng.integers(0, 2**32, BLOCK_BYTES // 4, np.uint32),
        "scale": (rng.uniform(0.5, 1.5, halves) * SCALE).astype("float16"),
        "norm": np.ones(halves, "float16"),
    }
    there = {kind: tensor(block, gpu) for kind, block in blocks.items()}
    stored = {parameter.name: parameter for parameter in library.metadata.params}
    made = []
    for step in library.metadata.repack:
        assert step.function is None, f"{step.function} repacks weights"
        for parameter in (stored[name] for name in step.inputs):
            shape = tuple(vocab if isinstance(n, str) else n for n in parameter.shape)
            halves_kind = "scale" if parameter.name.endswith("q_scale") else "norm"
            block = there["uint32" if parameter.dtype == "uint32" else halves_kind]
            full = empty(shape, parameter.dtype, gpu)
            _fill(full, block, int(np.prod(shape)))
            made.append(full)
    gpu.sync()
    return tvm_ffi.convert(made)


def _fill(full: Any, block: Any, count: int) -> None:
    size, item = block.shape[0], np.dtype(str(block.dtype)).itemsize
    for begin in range(0, count, size):
        part = min(size, count - begin)
        target = full._create_view((part,), str(full.dtype), begin * item)
        block._create_view((part,), str(block.dtype), 0).copyto(target)


def _ids(shape: ModelShape, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(7).integers(0, shape.vocab, count)]


def _prefill(model: LoadedModel, ids: list[int]) -> float:
    """Seconds until the logits after a prompt are on the host."""
    model.reset()
    begin = time.perf_counter()
    model.prefill(ids)
    return time.perf_counter() - begin


def _decode(model: LoadedModel, steps: int) -> float:
    """Seconds of a token, with its logits on the host; they are forgotten afterwards."""
    token, times = 1, []
    for _ in range(steps):
        begin = time.perf_counter()
        token = int(model.decode(token).argmax())
        times.append(time.perf_counter() - begin)
    model.pop(steps)
    return statistics.median(times)
