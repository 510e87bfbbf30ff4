"""Norms and the gated activation against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm.device.cpu.kernels.activation import silu_mul
from mlc_llm.device.cpu.kernels.norm import rms_norm

TOLERANCE = {"float32": 2e-6, "float16": 2e-3}


def normal(x, weight, eps):
    x = x.astype("float64")
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


@pytest.mark.parametrize("k", [64, 172, 105])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("m", [1, 5])
def test_rms_norm(machine, rng, k, dtype, m):
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k,)))
    y = np.full((m, k), np.nan, dtype)
    machine(rms_norm(k, 1e-5, dtype, dtype, machine.isa), x, w, y)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(y, normal(x, w, 1e-5), rtol=tolerance, atol=tolerance)


def test_norm_of_zeros_is_zero(machine):
    x, y = np.zeros((2, 32), "float32"), np.full((2, 32), np.nan, "float32")
    machine(rms_norm(32, 1e-5, "float32", "float32", machine.isa), x, np.ones(32, "float32"), y)
    assert not y.any()


def silu_product(x):
    gate, up = np.split(x.astype("float64"), 2, axis=-1)
    return gate / (1 + np.exp(-gate)) * up


@pytest.mark.parametrize("f", [64, 172, 105])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_silu_mul(machine, rng, f, dtype):
    x = (4 * rng.standard_normal((3, 2 * f))).astype(dtype)
    y = np.full((3, f), np.nan, dtype)
    machine(silu_mul(f, dtype, machine.isa), x, y)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(y, silu_product(x), rtol=tolerance, atol=tolerance * 1e-3)


@given(st.lists(st.floats(-87, 2.0**100, width=32), min_size=16, max_size=16))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_silu_of_any_number(best, gates):
    x = np.array([[*gates, *np.ones(16)]], "float32")
    y = np.full((1, 16), np.nan, "float32")
    best(silu_mul(16, "float32", best.isa), x, y)
    np.testing.assert_allclose(y, silu_product(x), rtol=1e-5, atol=1e-36)


def test_silu_far_from_zero(machine):
    gates = np.array([-1e30, -1e4, -200, -100, 100, 1e4, 1e30, 0], "float32")
    x = np.concatenate([gates, np.ones(8, "float32")])[None]
    y = np.full((1, 8), np.nan, "float32")
    machine(silu_mul(8, "float32", machine.isa), x, y)
    np.testing.assert_allclose(y[0], np.maximum(gates, 0), atol=1e-30)
