"""Norms, the gated activation and rotary embedding against NumPy and transformers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlc_llm.compile.rope import inverse_frequencies
from mlc_llm.device.cpu.kernels.activation import silu_mul
from mlc_llm.device.cpu.kernels.norm import rms_norm
from mlc_llm.device.cpu.kernels.rope import split_rotary

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
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


def rotated(x, positions, inv_freq):
    """transformers' rotation, in float32."""
    angle = positions.astype("float32")[:, None] * np.array(inv_freq, "float32")
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = np.split(x.astype("float32"), 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


@pytest.mark.parametrize("head_dim", [8, 16, 32, 64, 80, 96, 128])
def test_split_rotary(best, rng, head_dim):
    check_rotary(best, rng, head_dim, "float32")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_split_rotary_everywhere(machine, rng, dtype):
    check_rotary(machine, rng, 24, dtype)


def check_rotary(machine, rng, d, dtype):
    hq, hkv, tokens = 6, 2, 5
    qkv = rng.standard_normal((tokens, hq + 2 * hkv, d)).astype(dtype)
    positions = np.array([0, 1, 77, 4095, 32767], "int32")
    inv_freq = inverse_frequencies(d, 10000.0)
    kernel = split_rotary(hq, hkv, d, dtype, inv_freq)
    q, k, v = (np.full((tokens, h, d), np.nan, dtype) for h in (hq, hkv, hkv))
    machine(kernel, qkv, positions, q, k, v, 1)
    tolerance = TOLERANCE[dtype]
    both = rotated(qkv[:, : hq + hkv], positions, inv_freq)
    np.testing.assert_allclose(np.concatenate([q, k], 1), both, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(v, qkv[:, hq + hkv :])
    machine(kernel, qkv, positions, q, k, v, 0)
    np.testing.assert_array_equal(np.concatenate([q, k, v], 1), qkv)


def test_attention_factor_scales_the_rotation(best, rng):
    qkv = rng.standard_normal((2, 3, 16)).astype("float32")
    inv_freq = inverse_frequencies(16, 10000.0)
    q, k, v = (np.full((2, 1, 16), np.nan, "float32") for _ in range(3))
    positions = np.array([3, 9], "int32")
    best(split_rotary(1, 1, 16, "float32", inv_freq, 1.5), qkv, positions, q, k, v, 1)
    np.testing.assert_allclose(q, 1.5 * rotated(qkv[:, :1], positions, inv_freq), rtol=1e-5)


@pytest.mark.parametrize(
    "scaling", [None, {"rope_type": "linear", "factor": 4.0}, LLAMA3], ids=["plain", "linear", "l3"]
)
@pytest.mark.parametrize(("head_dim", "theta"), [(64, 10000.0), (128, 500000.0)])
def test_frequencies_are_those_of_transformers(scaling, head_dim, theta):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = transformers.LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        rope_parameters={"rope_theta": theta, **(scaling or {"rope_type": "default"})},
        max_position_embeddings=32768,
    )
    expected = LlamaRotaryEmbedding(config).inv_freq.float().numpy()
    ours = inverse_frequencies(head_dim, theta, scaling)
    np.testing.assert_allclose(ours, expected, rtol=4e-7)


def test_unknown_scaling_is_named():
    with pytest.raises(ValueError, match="'yarn' is not supported; known: default, linear, llama3"):
        inverse_frequencies(64, 10000.0, {"rope_type": "yarn", "factor": 2.0})
    with pytest.raises(ValueError, match="32 inverse frequencies are needed, not 1"):
        split_rotary(1, 1, 64, "float32", (1.0,))
