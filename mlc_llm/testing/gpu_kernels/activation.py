"""Activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.compile.gpu.kernels.activation import FUNCTIONS, activation, gated
from mlc_llm.testing.gpu_kernels.suite import UNIT, GPUKernelSuite, Run

POINTS = np.concatenate(
    [
        np.linspace(-16, 16, 1001),
        [sign * x for sign in (-1, 1) for x in (1e-30, 40, 80, 88, 89, 200, 65504, 1e13, 1e30)],
    ]
).astype("float32")
"""Where an activation is computed: far beyond what exp takes, too."""


def activated(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The definition of an activation, and how far off `activation.py` says that it may be.

    The error of exp is that which WGSL allows.
    """
    x = x.astype("float64")

    def exp_error(exponent: np.ndarray) -> np.ndarray:
        return (3 + 2 * np.minimum(np.abs(exponent), 90)) * 2 * UNIT

    cut = 1e-30 * np.abs(x)
    match name:
        case "silu":
            y = x / (1 + np.exp(np.minimum(-x, 700)))
            return y, (4 * UNIT + exp_error(x)) * np.abs(y) + cut
        case "gelu_tanh":
            u = math.sqrt(2 / math.pi) * (
                np.clip(x, -1e3, 1e3) + 0.044715 * np.clip(x, -1e3, 1e3) ** 3
            )
            y = x / (1 + np.exp(np.minimum(-2 * u, 700)))
            return y, (4 * UNIT + exp_error(2 * u) + 8 * np.abs(u) * UNIT) * np.abs(y) + cut
        case "gelu":
            tail = np.abs(x) * np.vectorize(math.erfc)(np.abs(x) / math.sqrt(2)) / 2
            y = np.maximum(x, 0) - tail
            relative = 5e-7 + exp_error(x * x / 2) + x * x * UNIT
            return y, UNIT * np.abs(y) + relative * tail + cut
        case "relu":
            return np.maximum(x, 0), np.zeros_like(x)
        case "relu2":
            y = np.maximum(x, 0) ** 2
            return y, UNIT * y + np.finfo("float32").tiny
    raise AssertionError(name)


class GPUActivationSuite(GPUKernelSuite):
    """Activations, and those that are gated."""

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_activation(self, run: Run, name: Any, capabilities: GPUCapabilities) -> None:
        """As exact as `activation.py` says, and finite where the function is."""
        x = POINTS[np.abs(POINTS) < 1e19] if name == "relu2" else POINTS
        y, (want, error) = np.full((1, x.size), np.nan, "float32"), activated(name, x)
        run(activation(name, x.size, "float32", capabilities), x[None], y)
        assert (np.abs(y[0] - want) <= error).all()

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_gated_activation(
        self, run: Run, rng: np.random.Generator, name: Any, capabilities: GPUCapabilities
    ) -> None:
        x = (8 * rng.standard_normal((5, 2 * 67))).astype("float16")
        y = np.full((5, 67), np.nan, "float16")
        run(gated(name, 67, "float16", capabilities), x, y)
        want = activated(name, x[:, :67])[0] * x[:, 67:]
        np.testing.assert_allclose(y, want, rtol=2**-11 + 1e-5, atol=6e-8)
