"""What the kernels of one token ask of a GPU's memory: counted on the emulated one.

    python plugins/cuda/emulator python -m benchmarks.gpu.counting SHAPE CONTEXT ...

is the child process of :mod:`.predictions`; it writes one JSON object. The model has three layers
of the true widths, and its memory is not filled: only addresses matter. Of each launch a block
along the grid's first axis is run, and then two; blocks along it are alike, so that counts grow
evenly, and the whole launch's follow from the two. All along the other axes are run: those of
attention have more keys and fewer.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.libraries import write_model
from benchmarks.shapes import SHAPES, ModelShape

LAYERS = 3
BLOCKS = (1, 2)
"""How many blocks of a launch are run along the grid's first axis, in the two runs."""
ARCHITECTURE = "90"
SETTING = "GPU_EMULATOR_{}"


def counted(shape: ModelShape, contexts: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """The launches of a token after contexts of these lengths, in their order.

    Args:
        shape: the model's; of its layers three are made.
        contexts: tokens before it.

    Returns:
        Of each launch its ``kernel``, ``threads`` and ``blocks``, and the bytes of device memory:
        ``read`` by all threads, and ``moved``, each sector once, with what was written.
    """
    import tvm
    import tvm_ffi
    from tvm.runtime import empty

    from mlc_llm.runtime.compiled_library import CompiledLibrary
    from mlc_llm.runtime.kv_cache import KVCache
    from mlc_llm.runtime.model_functions import ModelFunctions
    from mlc_llm.runtime.sequence import PREFILLED, Run

    small, gpu = replace(shape, layers=LAYERS), tvm.cuda(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.so"
        write_model(path, small, [ARCHITECTURE])
        library = CompiledLibrary(path, gpu)
        sizes = [
            (tuple(shape.vocab if isinstance(n, str) else n for n in p.shape), p.dtype)
            for p in library.metadata.params
        ]
        parameters = tvm_ffi.convert([empty(size, dtype, gpu) for size, dtype in sizes])
        functions = ModelFunctions(library, parameters, gpu, shape.vocab)
        cache = KVCache(library.metadata.kv_cache, max(contexts) + 1, 1, gpu)
        functions.use(cache)
        found = {}
        for context in contexts:
            runs = []
            for blocks in BLOCKS:
                sequence = cache.add()
                sequence.reserve(context)
                sequence.extend([0] * context, PREFILLED)
                trace = Path(folder) / f"{context}-{blocks}"
                os.environ |= {
                    SETTING.format("BLOCKS"): str(blocks),
                    SETTING.format("TRACE"): str(trace),
                }
                functions.decode([Run(sequence, (1,))])
                runs.append([json.loads(line) for line in trace.read_text().splitlines()])
                cache.remove(sequence)
            found[context] = [_whole(*pair) for pair in zip(*runs, strict=True)]
    return found


def _whole(few: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The counts of a whole launch, from those of a few of its blocks and of more."""
    across = few["grid"][0]

    def total(*kinds: str) -> int:
        first, second = (sum(run[kind] for kind in kinds) for run in (few, more))
        if across <= BLOCKS[1]:
            return second
        return round(second + (second - first) / (BLOCKS[1] - BLOCKS[0]) * (across - BLOCKS[1]))

    threads = few["block"][0] * few["block"][1] * few["block"][2]
    return {
        "kernel": few["kernel"],
        "threads": threads,
        "blocks": math.prod(few["grid"]),
        "read": total("read"),
        "moved": total("read_once", "written"),
    }


def main(arguments: Sequence[str]) -> None:
    name, *contexts = arguments
    print(json.dumps(counted(SHAPES[name], [*map(int, contexts)])))


if __name__ == "__main__":
    main(sys.argv[1:])
