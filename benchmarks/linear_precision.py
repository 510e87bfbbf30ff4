"""How far 4-bit matrix products are off when activations have outliers, as in large models.

In trained models of billions of parameters a few channels of the activations are tens of times
larger than the rest (Dettmers et al., LLM.int8(), arXiv:2208.07339). A group of 32 that holds one
shares its scale. Small models do not show this, so it is made here, at the size of real layers:
Gaussian activations with some channels multiplied, random 4-bit weights, and the kernels as they
are compiled for this CPU, against float64.

    python -m benchmarks.linear_precision
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tvm

from mlc_llm.compile.kernel_pipeline import compile_kernels
from mlc_llm.device.cpu.features import host_target
from mlc_llm.device.cpu.kernels.group_layout import Part, packed_shapes
from mlc_llm.device.cpu.kernels.group_linear import group_linear
from mlc_llm.device.cpu.kernels.isa import Isa
from mlc_llm.device.cpu.kernels.repack import repack
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.quantization.packing import dequantize, quantize

SHAPES = {"2048 x 2048": (2048, 2048), "2048 x 5632": (2048, 5632), "4096 x 14336": (4096, 14336)}
TOKENS = 16
Q4 = Scheme(4, "float16", 32, 7)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outliers:
    """Channels that are larger than the others.

    Args:
        share: how many of the channels.
        factor: how many times larger.
    """

    share: float
    factor: float

    def __str__(self) -> str:
        return f"{self.share:.1%} of channels x{self.factor:g}" if self.share else "none"

    def activations(self, random: np.random.Generator, tokens: int, width: int) -> Floats:
        """Activations (tokens, width), float32; every token has the same outlier channels."""
        x = random.standard_normal((tokens, width), np.float32)
        channels = random.choice(width, round(self.share * width), replace=False)
        x[:, channels] *= np.float32(self.factor)
        return x


CASES = (Outliers(0, 1), Outliers(0.002, 50), Outliers(0.002, 100), Outliers(0.01, 100))


class Layer:
    """A 4-bit layer with random weights, packed for this CPU.

    Args:
        rows: outputs.
        columns: inputs.
        random: where the weights come from.
    """

    def __init__(self, rows: int, columns: int, random: np.random.Generator) -> None:
        self.columns = columns
        self.part = Part(rows, Q4)
        self.target = tvm.target.Target(dict(host_target()))
        stored = quantize(random.standard_normal((rows, columns), np.float32), Q4)
        self.weight = dequantize(stored, columns, Q4).astype(np.float64)
        self.packed = [tvm.runtime.empty(*each) for each in packed_shapes(self.part, columns)]
        self._run(repack(self.part, columns), *map(tvm.runtime.tensor, stored), *self.packed)

    def __call__(self, x: Floats, activations: str) -> Floats:
        """x (tokens, columns) times the weights, by the kernel for many tokens."""
        isa = Isa.of(self.target)
        kernel = group_linear(
            (self.part,), self.columns, None, "float32", "float32", isa, activations
        )
        y = tvm.runtime.empty((len(x), len(self.weight)), "float32")
        self._run(kernel, tvm.runtime.tensor(x), *self.packed, y)
        result: Floats = y.numpy()
        return result

    def _run(self, kernel: tvm.tirx.PrimFunc, *arguments: tvm.runtime.Tensor) -> None:
        compile_kernels(kernel, self.target)[kernel.attrs["global_symbol"]](*arguments)


def measure(name: str, random: np.random.Generator) -> Iterator[Sequence[str]]:
    """Rows of the report: shape, outliers, relative error of a16 and of a8."""
    layer = Layer(*SHAPES[name], random)
    for case in CASES:
        x = case.activations(random, TOKENS, layer.columns)
        exact = x.astype(np.float64) @ layer.weight.T
        errors = [layer(x, rounding) - exact for rounding in ("a16", "a8")]
        figures = [np.linalg.norm(error) / np.linalg.norm(exact) for error in errors]
        yield name, str(case), *(f"{figure:.1e}" for figure in figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=list(SHAPES), action="append")
    arguments = parser.parse_args()
    print("| weight | outliers | a16 | a8 |\n| --- | --- | --- | --- |")
    random = np.random.default_rng(0)
    for name in arguments.shape or SHAPES:
        for cells in measure(name, random):
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
