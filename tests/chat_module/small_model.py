"""A small model that writes something like words, of nothing but NumPy: no data, no torch.

The embedding of a byte and the output matrix together give the logarithm of how often another byte
follows it in a corpus. Attention and MLP have random weights, so that what is written also depends
on everything before: a cache that is wrong shows.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.testing.model_folder import (
    FIRST_BYTE,
    SMALL_CONFIG,
    llama_shapes,
    make_checkpoint,
    save_tensors,
)

Floats = npt.NDArray[np.float32]

CORPUS = (
    "The señor saw a café on the quay. Übermut tut selten gut. A naïve girl ate crème brûlée. "
    "Then the cat sat on the mat and the dog ran to the river with a red ball. 猫は窓。 "
    "One day a boy met a bird who sang of rain and sun. They were glad, and went home late. "
)

GAINS = {
    "q_proj": 2.0,
    "k_proj": 2.0,
    "v_proj": 1.0,
    "o_proj": 0.5,
    "gate_proj": 1.0,
    "up_proj": 1.0,
    "down_proj": 0.3,
}
"""How much each random matrix enlarges a vector; small enough for the corpus to be heard."""


def write_small_checkpoint(folder: Path) -> None:
    """Write the model in the Hugging Face layout, with a token for each byte."""
    make_checkpoint(folder)
    save_tensors(folder / "model.safetensors", _tensors())


def _tensors() -> dict[str, Floats]:
    random = np.random.default_rng(4)
    tensors = {}
    for name, shape in llama_shapes(SMALL_CONFIG).items():
        gain = GAINS.get(name.split(".")[-2], 1.0)
        scale = gain / np.sqrt(shape[-1])
        values = random.normal(scale=scale, size=shape).astype(np.float32)
        tensors[name] = np.ones(shape, np.float32) if len(shape) == 1 else values
    table = tensors["model.embed_tokens.weight"]
    table /= np.sqrt((table**2).mean(axis=1, keepdims=True))
    tensors["lm_head.weight"] = _output_matrix(table)
    return tensors


def _output_matrix(table: Floats) -> Floats:
    """What gives each byte's successors in the corpus their logarithmic frequencies as logits."""
    counts = np.full((len(table), len(table)), 1e-4)
    ids = [FIRST_BYTE + byte for byte in (CORPUS * 2).encode()]
    for before, after in itertools.pairwise(ids):
        counts[before, after] += 1
    used = sorted(set(ids))
    logits = np.log(counts[used] / counts[used].sum(axis=1, keepdims=True))
    solution = np.linalg.lstsq(table[used].astype(np.float64), logits, rcond=None)[0]
    return np.ascontiguousarray(solution.T, dtype=np.float32)
