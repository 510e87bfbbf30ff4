"""Norms of whole rows and of heads against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from mlc_llm.device.cpu.kernels.head_norm import head_norm
from mlc_llm.device.cpu.kernels.norm import LayerNormed, RmsNormed
from mlc_llm.device.cpu.kernels.rows import rows_kernel
from mlc_llm.plugin import AttentionSpec

pytestmark = pytest.mark.matrix

SIZES = [  # columns, dtype of the rows, dtype of the weights
    (1, "float32", "float32"),
    (7, "float32", "float16"),
    (16, "float16", "float16"),
    (33, "float16", "float16"),
    (33, "float32", "float32"),
    (100, "float32", "float16"),
    (576, "float32", "float32"),
]
TOLERANCE = {"float32": 2e-6, "float16": 2e-3}
EPSILON = 0.01  # large enough that to leave it out is seen


def rms_normal(x, weight, epsilon=EPSILON, offset=0.0):
    x = x.astype("float64")
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * (weight + offset)


def layer_normal(x, weight, bias, epsilon=EPSILON):
    x = x.astype("float64")
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * weight + bias


def run(machine, rows, x, *weights):
    """The rows by themselves."""
    y = np.full_like(x, np.nan)
    machine(rows_kernel(rows, x.shape[1], str(x.dtype), machine.isa), x, *weights, y)
    return y


@pytest.mark.parametrize(("k", "dtype", "weight_dtype"), SIZES)
@pytest.mark.parametrize("unit_offset", [False, True])
def test_rms_norm(machine, rng, k, dtype, weight_dtype, unit_offset):
    x = rng.standard_normal((3, k)).astype(dtype)
    weight = rng.standard_normal(k).astype(weight_dtype)
    y = run(machine, RmsNormed(EPSILON, weight_dtype, unit_offset), x, weight)
    expected = rms_normal(x, weight.astype("float64"), offset=float(unit_offset))
    np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize(("k", "dtype", "weight_dtype"), SIZES)
@pytest.mark.parametrize("bias", [False, True])
def test_layer_norm(machine, rng, k, dtype, weight_dtype, bias):
    x = (rng.standard_normal((3, k)) + 2).astype(dtype)
    weights = [rng.standard_normal(k).astype(weight_dtype) for _ in range(1 + bias)]
    y = run(machine, LayerNormed(EPSILON, weight_dtype, bias), x, *weights)
    expected = layer_normal(x, *weights) if bias else layer_normal(x, *weights, 0.0)
    # The largest of a row bounds the error of its mean.
    np.testing.assert_allclose(y, expected, rtol=TOLERANCE[dtype], atol=2 * TOLERANCE[dtype])


@pytest.mark.parametrize("rows", [RmsNormed(EPSILON, "float32"), LayerNormed(EPSILON, "float32")])
@pytest.mark.parametrize("m", [0, 1, 2, 33])
def test_any_number_of_rows(best, rng, rows, m):
    x = rng.standard_normal((m, 20)).astype("float32")
    weights = [rng.standard_normal(20).astype("float32") for _ in rows.weights()]
    normal = rms_normal if len(weights) == 1 else layer_normal
    y = run(best, rows, x, *weights)
    np.testing.assert_allclose(y, normal(x, *weights), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-3, 1e4, 1e15])
def test_small_and_large_rows(machine, rng, scale):
    x = (scale * rng.standard_normal((2, 100))).astype("float32")
    weight, bias = np.full(100, 2, "float32"), np.full(100, 0.0, "float32")
    tolerance = {"rtol": 3e-6, "atol": 3e-6 * min(1, scale)}
    y = run(machine, RmsNormed(1e-5, "float32"), x, weight)
    np.testing.assert_allclose(y, rms_normal(x, weight, 1e-5), **tolerance)
    y = run(machine, LayerNormed(1e-5, "float32"), x, weight, bias)
    np.testing.assert_allclose(y, layer_normal(x, weight, bias, 1e-5), **tolerance)


def test_layer_norm_far_from_zero(machine, rng):
    """The mean square minus the squared mean, in float32, would be rounding errors alone."""
    x = (1e4 + rng.standard_normal((2, 576))).astype("float32")
    ones = np.ones(576, "float32")
    y = run(machine, LayerNormed(1e-5, "float32", bias=False), x, ones)
    # A step of the mean is 1e-3, the deviation 1.
    np.testing.assert_allclose(y, layer_normal(x, ones, 0.0, 1e-5), atol=2e-3)


def head_normal(qkv, spec, weights, offset):
    """Queries and keys as heads, each normalised; values as they are."""
    ends = [spec.query_heads * spec.key_size, (spec.query_heads + spec.kv_heads) * spec.key_size]
    *parts, value = np.split(qkv, ends, axis=1)
    heads = [part.reshape(-1, spec.key_size) for part in parts]
    normed = [
        rms_normal(x, weight.astype("float64"), offset=offset).reshape(part.shape)
        for x, weight, part in zip(heads, weights, parts, strict=True)
    ]
    return np.concatenate([*normed, value], axis=1)


@pytest.mark.parametrize("key_size", [7, 16, 20, 64])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("unit_offset", [False, True])
def test_head_norm(machine, rng, key_size, dtype, unit_offset):
    spec = AttentionSpec(6, 2, key_size, 12, 1.0)
    weights = [rng.standard_normal(key_size).astype("float16") for _ in range(2)]
    kernel = head_norm(spec, EPSILON, "float16", dtype, machine.isa, unit_offset)
    for n in (0, 1, 11):
        qkv = rng.standard_normal((n, spec.qkv_width)).astype(dtype)
        expected = head_normal(qkv, spec, weights, float(unit_offset))
        machine(kernel, qkv, *weights)
        np.testing.assert_allclose(qkv, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_a_layer_without_keys_has_none_to_normalise(best):
    spec = AttentionSpec(6, 2, 16, 16, 1.0, keys_of=3)
    with pytest.raises(ValueError, match="uses those of 3"):
        head_norm(spec, EPSILON, "float32", "float32", best.isa)
