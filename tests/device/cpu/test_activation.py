"""Functions of elements, alone and as gates, against NumPy."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm.device.cpu.kernels.activation import Activated, Gated
from mlc_llm.device.cpu.kernels.rows import rows_kernel
from mlc_llm.model.layers import ActivationName

pytestmark = pytest.mark.matrix

NAMES = get_args(ActivationName)
SIZES = [
    (1, "float32"),
    (7, "float16"),
    (16, "float32"),
    (33, "float32"),
    (100, "float16"),
    (576, "float32"),
]
TOLERANCE = {"float32": 2e-6, "float16": 1e-3}


def gelu(x):
    return x * np.vectorize(math.erfc, otypes=["float64"])(-x / math.sqrt(2)) / 2


def logistic(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


EXACT = {
    "silu": lambda x: x * logistic(x),
    "gelu": gelu,
    "gelu_tanh": lambda x: x * logistic(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)),
    "relu": lambda x: np.maximum(x, 0),
    "relu2": lambda x: np.maximum(x, 0) ** 2,
}


def run(machine, rows, x, k):
    """The rows by themselves."""
    y = np.full((x.shape[0], k), np.nan, x.dtype)
    machine(rows_kernel(rows, k, str(x.dtype), machine.isa), x, y)
    return y


@pytest.mark.parametrize(("k", "dtype"), SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_activated(machine, rng, name, k, dtype):
    x = (2 * rng.standard_normal((3, k))).astype(dtype)
    y = run(machine, Activated(name), x, k)
    expected = EXACT[name](x.astype("float64"))
    # The last step of float16 near 0 is 6e-8.
    np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=1e-7)


@pytest.mark.parametrize(("k", "dtype"), SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_gated(machine, rng, name, k, dtype):
    x = (2 * rng.standard_normal((3, 2 * k))).astype(dtype)
    y = run(machine, Gated(name), x, k)
    gate, up = np.split(x.astype("float64"), 2, axis=1)
    np.testing.assert_allclose(y, EXACT[name](gate) * up, rtol=TOLERANCE[dtype], atol=1e-7)


@pytest.mark.parametrize("rows", [Activated("gelu"), Gated("gelu")])
@pytest.mark.parametrize("m", [0, 1, 2, 33])
def test_any_number_of_rows(best, rng, rows, m):
    x = rng.standard_normal((m, rows.width(20))).astype("float32")
    expected = gelu(x[:, :20].astype("float64"))
    if isinstance(rows, Gated):
        expected = expected * x[:, 20:]
    np.testing.assert_allclose(run(best, rows, x, 20), expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "near", "tails"),
    [("silu", 5e-7, 4e-6), ("gelu", 1.5e-6, 8e-6), ("gelu_tanh", 2.5e-6, 1.5e-5)],
)
def test_relative_errors_are_those_stated(every_machine, name, near, tails):
    """Where the result is tiny, too: 1 + erf or 1 + tanh would have cancelled to 0."""
    sizes = np.geomspace(1e-20, 80, 2048)
    x = np.concatenate([sizes, -sizes, np.linspace(-5, 5, 4096)]).astype("float32")[None]
    y, exact = run(every_machine, Activated(name), x, 8192), EXACT[name](x.astype("float64"))
    for where, bound in ((np.abs(x) <= 5, near), (np.abs(exact) > 1e-36, tails)):
        np.testing.assert_allclose(y[where], exact[where], rtol=bound)
    np.testing.assert_allclose(y, exact, rtol=tails, atol=1e-36)


@pytest.mark.parametrize("name", NAMES)
def test_far_from_zero(machine, name):
    x = np.array([[-1e30, -1e13, -1e4, -200, -100, -20, 0, 20, 100, 200, 1e4, 1e13, 1e30]])
    x = x.astype("float32")
    y = run(machine, Activated(name), x, 13)
    with np.errstate(over="ignore"):
        expected = np.maximum(x, 0) ** (2 if name == "relu2" else 1)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)


@given(st.lists(st.floats(-87, 2.0**60, width=32), min_size=19, max_size=19))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("name", NAMES)
def test_any_number(best, name, gates):
    x = np.array([gates], "float32")
    exact = EXACT[name](x.astype("float64"))
    np.testing.assert_allclose(run(best, Activated(name), x, 19), exact, rtol=2e-5, atol=1e-36)
