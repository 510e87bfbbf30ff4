"""The CPU's linear kernels, one for each way that weights are stored: are all as fast per byte?

A weight is larger than the caches, so that a single token waits for the memory. The schemes are
measured in turn, and the median of the rounds counts.

    python -m benchmarks.scheme_speed --threads 2
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import tvm

from mlc_llm.compile.kernel_pipeline import compile_kernels
from mlc_llm.device.cpu.features import host_target
from mlc_llm.device.cpu.kernels.group_layout import Part, packed_shapes
from mlc_llm.device.cpu.kernels.group_linear import group_linear
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.quantization import PLANS

TOKENS = 128


class Product:
    """A product with a random weight in one scheme.

    Args:
        part: rows and scheme of the weight.
        columns: its columns.
        isa: what the CPU offers.
        target: the TVM target.
    """

    def __init__(self, part: Part, columns: int, isa: Isa, target: tvm.target.Target) -> None:
        random = np.random.default_rng(0)
        shapes = packed_shapes(part, columns)
        packed = [_random(random, shape, dtype) for shape, dtype in shapes]
        self.weight = [tvm.runtime.tensor(array) for array in packed]
        self.nbytes = sum(array.nbytes for array in packed)
        self._runs: dict[int, Callable[[], object]] = {}
        for tokens, rounding in ((1, "a16"), (TOKENS, "a8")):
            known = 1 if tokens == 1 else None
            kernel = group_linear((part,), columns, known, "float32", "float32", isa, rounding)
            run = compile_kernels(kernel, target)["main"]
            x = tvm.runtime.tensor(random.standard_normal((tokens, columns), np.float32))
            y = tvm.runtime.tensor(np.zeros((tokens, int(part.rows or 0)), np.float32))
            self._runs[tokens] = partial(run, x, *self.weight, y)

    def seconds(self, tokens: int, repeats: int) -> float:
        """Seconds of one product."""
        self._runs[tokens]()
        begin = time.perf_counter()
        for _ in range(repeats):
            self._runs[tokens]()
        return (time.perf_counter() - begin) / repeats


def _random(random: np.random.Generator, shape: tuple[int | str, ...], dtype: str) -> np.ndarray:
    sizes = tuple(map(int, shape))
    if dtype in ("uint8", "int8"):
        return random.integers(0, np.iinfo(dtype).max, sizes, dtype, endpoint=True)
    return random.uniform(0.01, 0.02, sizes).astype(dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192, help="rows and columns of the weight")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    os.environ["TVM_NUM_THREADS"] = str(arguments.threads)
    target = tvm.target.Target(host_target())
    isa, size = Isa.of(target), arguments.size
    products = {
        name: Product(Part(size, plan.linear), size, isa, target)
        for name, plan in PLANS.items()
        if not plan.linear.is_float and plan.linear.layout == "rows"
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in products}
    for _ in range(arguments.rounds):
        for name, product in products.items():
            found[name].append((product.seconds(1, 3), product.seconds(TOKENS, 1)))
    print(f"{isa.name}, {size} x {size}, {arguments.threads} threads")
    for name, seconds in found.items():
        one, many = (statistics.median(some) for some in zip(*seconds, strict=True))
        operations = 2 * size * size * TOKENS
        print(
            f"{name:10} {products[name].nbytes / 1e6:6.1f} MB  "
            f"one token {products[name].nbytes / one / 1e9:5.1f} GB/s  "
            f"{TOKENS} tokens {operations / many / 1e9:6.1f} GFLOP/s"
        )


if __name__ == "__main__":
    main()
