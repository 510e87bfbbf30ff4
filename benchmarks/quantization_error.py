"""How far the weights of each quantisation are off, once stored and read back.

The error is relative: the root mean square of what weights lose, over that of the weights. Weights
are normal random numbers, and the linear layers of a trained model. Nothing else is computed, so
that no device and no rounding of activations counts.

    python -m benchmarks.quantization_error path/to/hf-model
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.convert.plan import make_plan
from mlc_llm.convert.source import SourceModel
from mlc_llm.convert.values import blocks
from mlc_llm.model.layers import Linear
from mlc_llm.model.module import named_modules
from mlc_llm.plugin import Scheme
from mlc_llm.quantization import PLANS
from mlc_llm.quantization.packing import dequantize, quantize

Floats = npt.NDArray[np.float32]

SIZE = 4096


def relative_error(matrices: Iterable[Floats], scheme: Scheme) -> float:
    """The root mean square of what a scheme loses of matrices, over that of the matrices."""
    lost = there = 0.0
    for w in matrices:
        back = dequantize(quantize(w, scheme), w.shape[1], scheme)
        lost += float(np.sum(np.square(back - w, dtype=np.float64)))
        there += float(np.sum(np.square(w, dtype=np.float64)))
    return (lost / there) ** 0.5


def linear_weights(folder: Path) -> list[Floats]:
    """The weights of the linear layers of a model in Hugging Face's layout.

    Weights that are stored together, such as those of queries, keys and values, are one matrix.
    """
    source = SourceModel.open(folder)
    architecture, config = source.architecture, source.config
    layers = {
        f"{name}.weight"
        for name, module in named_modules(architecture.module(config))
        if isinstance(module, Linear)
    }
    planned = make_plan(source.checkpoint(), architecture, config, PLANS["q0f32"])
    return [
        np.concatenate([block for _, block in blocks(weight, architecture, lambda _: None)])
        for weight in planned
        if weight.name in layers
    ]


def show(title: str, matrices: Sequence[Floats]) -> None:
    """Print the table of one set of weights."""
    print(f"\n{title}: {sum(w.size for w in matrices):,} weights")
    print("| quantisation | bits a weight | relative error |\n| --- | --- | --- |")
    for plan in PLANS.values():
        error = relative_error(matrices, plan.linear)
        print(f"| `{plan.name}` | {plan.linear.bits_per_weight:g} | {error:.2%} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path, help="models in Hugging Face's layout")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights")
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    show("Normal numbers", [random.standard_normal((SIZE, SIZE), np.float32)])
    for folder in arguments.models:
        show(folder.name, linear_weights(folder))


if __name__ == "__main__":
    main()
