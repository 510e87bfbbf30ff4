"""The steps for what the machine has itself: torch and transformers, in its own Python.

    python torch_side.py STEP BUNDLE [MODEL]

They run with the packages of the machine and not with those of the bundle, so nothing of mlc_llm,
nor NumPy, is imported here. What they write is what :mod:`.side` writes.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

Record = dict[str, Any]
SIDE = 8192
STEPS = 32


def torch(bundle: Path, contents: dict[str, Any]) -> Iterator[Record]:
    """The rates of cuBLAS, and of a copy, as torch has them."""
    found = _torch()
    if found is None:
        yield {"what": "torch", "note": "it is not installed, or sees no GPU"}
        return
    yield {"what": f"torch {found.__version__}", "note": found.cuda.get_device_name(0)}
    for dtype in ("float16", "bfloat16"):
        x = found.randn(SIDE, SIDE, device="cuda", dtype=getattr(found, dtype))
        seconds = _least(found, partial(found.matmul, x, x), 5)
        rate = 2 * SIDE**3 / seconds / 1e12
        yield {"what": f"product in {dtype} (cuBLAS)", "value": rate, "unit": "TFLOP/s"}
    source = found.empty(contents["copy_bytes"], dtype=found.uint8, device="cuda")
    target = found.empty_like(source)
    seconds = _least(found, lambda: target.copy_(source), 10)
    rate = 2 * contents["copy_bytes"] / seconds / 1e9
    yield {"what": "copy within the GPU's memory (torch)", "value": rate, "unit": "GB/s"}


def transformers(bundle: Path, contents: dict[str, Any], name: str) -> Iterator[Record]:
    """A model of the same shape with random weights in float16."""
    found = _torch()
    try:
        from transformers import LlamaConfig, LlamaForCausalLM, __version__
    except ImportError:
        found = None
    if found is None:
        yield {"what": "transformers", "note": "it is not installed, or torch sees no GPU"}
        return
    shape, rows = contents["models"][name], contents["rows"]
    config = LlamaConfig(
        hidden_size=shape["hidden"],
        intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"],
        vocab_size=shape["vocab"],
        max_position_embeddings=16384,
    )
    found.set_default_dtype(found.float16)
    with found.device("cuda"), found.inference_mode():
        model = LlamaForCausalLM(config).eval()
        label = f"{name}: transformers {__version__}, float16"
        for length in rows["prompts"]:
            ids = found.randint(0, shape["vocab"], (1, length))
            seconds = _least(found, partial(model, ids, logits_to_keep=1), 1)
            yield {"what": f"{label}: prefill {length}", "value": length / seconds, "unit": "tok/s"}
        context = rows["contexts"][0]
        ids = found.randint(0, shape["vocab"], (1, context))
        seconds = _decode(found, model, ids)
        yield {"what": f"{label}: decode at {context}", "value": 1 / seconds, "unit": "tok/s"}


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def _decode(torch: Any, model: Any, ids: Any) -> float:
    past = model(ids, use_cache=True, logits_to_keep=1)
    times = []
    for _ in range(STEPS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        token = past.logits[:, -1:].argmax(-1)
        past = model(token, past_key_values=past.past_key_values, use_cache=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _least(torch: Any, work: Callable[[], object], calls: int) -> float:
    work()
    times = []
    for _ in range(3):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) / calls)
    return min(times)


STEPS_BY_NAME: dict[str, Callable[..., Iterator[Record]]] = {
    "torch": torch,
    "transformers": transformers,
}


def main(arguments: list[str]) -> None:
    step, bundle, *more = arguments
    contents = json.loads((Path(bundle) / "bundle.json").read_text(encoding="utf-8"))
    for record in STEPS_BY_NAME[step](Path(bundle), contents, *more):
        print(json.dumps({"step": step, **record}), flush=True)


if __name__ == "__main__":
    # This folder's modules must not stand before those of the machine.
    del sys.path[0]
    main(sys.argv[1:])
