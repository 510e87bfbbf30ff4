"""The frequencies of rotary position embeddings, which every device's kernels take as constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def inverse_frequencies(
    head_dim: int, theta: float, scaling: Mapping[str, Any] | None = None
) -> tuple[float, ...]:
    """The head_dim / 2 angles per position, rounded to float32.

    Args:
        head_dim: width of a head.
        theta: base of the geometric series.
        scaling: a Hugging Face `rope_scaling`: None or type "default"; "linear" (`factor`);
            "llama3" (`factor`, `low_freq_factor`, `high_freq_factor`,
            `original_max_position_embeddings`).

    Raises:
        ValueError: the scaling is of another type.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequency = (np.float32(1) / np.power(np.float32(theta), exponent)).astype(np.float32)
    scaling = scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "linear":
        frequency = frequency / np.float32(scaling["factor"])
    elif kind == "llama3":
        frequency = _llama3(frequency, scaling)
    elif kind != "default":
        raise ValueError(f"rope type {kind!r} is not supported; known: default, linear, llama3")
    return tuple(float(f) for f in frequency.astype(np.float32))


def _llama3(frequency: np.ndarray, scaling: Mapping[str, Any]) -> np.ndarray:
    """Long waves are stretched by `factor`, short ones kept, those between interpolated."""
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    wavelength = np.float32(2 * math.pi) / frequency
    # How many waves fit into the context that the model was trained on.
    waves = np.float32(scaling["original_max_position_embeddings"]) / wavelength
    keep = np.clip((waves - low) / (high - low), 0, 1).astype(np.float32)
    return (1 - keep) * frequency / np.float32(scaling["factor"]) + keep * frequency
