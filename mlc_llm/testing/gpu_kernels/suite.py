"""The suite of the kernels that GPUs share; see :mod:`mlc_llm.testing.gpu_kernels`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

Run = Callable[..., None]
"""Compiles a kernel, runs it, and leaves the results in the NumPy arrays that it was given."""

UNIT = 2.0**-24
"""Unit of roundoff of float32."""


class GPUKernelSuite:
    """Tests of kernels. A device's tests have the fixtures ``run`` and ``capabilities``."""

    @pytest.fixture
    def rng(self) -> np.random.Generator:
        """The same random numbers for each test."""
        return np.random.default_rng(20240607)
