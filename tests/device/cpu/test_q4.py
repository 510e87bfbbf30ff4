"""The 4-bit linear layer, its packing and its embedding against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlc_llm.device.cpu.kernels.embedding import q4_embedding
from mlc_llm.device.cpu.kernels.q4_linear import q4_blocks, q4_groups, q4_linear, repack_q4

# Steps between 0 and the largest activation of a group, as rounding.py promises.
LIMIT = {"a16": 32512, "a8": 127}


def error_bound(x, weight, limit):
    """Half a step of the rounded activations times the weights, and float32 roundings."""
    x, weight = np.abs(x).astype("float64"), np.abs(weight).astype("float64")
    groups = [slice(g, g + 32) for g in range(0, x.shape[1], 32)]
    step = np.stack([x[:, g].max(1) / limit for g in groups], axis=1)
    rounding = 0.5001 * step @ np.stack([weight[:, g].sum(1) for g in groups])
    return rounding + 1e-6 * (x @ weight.T)


def quantised(rng, n, k, scale_dtype):
    """Random codes and scales in the stored layout, and the weight they stand for."""
    groups = q4_groups(k)
    codes = rng.integers(0, 15, (n, groups * 32)).astype(np.uint32)
    codes[:, k:] = 0
    words = codes.reshape(n, groups * 4, 8) << (4 * np.arange(8, dtype=np.uint32))
    q_weight = np.bitwise_or.reduce(words, axis=-1)
    q_scale = rng.uniform(0.002, 0.02, (n, groups)).astype(scale_dtype)
    weight = (codes.astype("float32") - 7) * np.repeat(q_scale.astype("float32"), 32, axis=1)
    return q_weight, q_scale, weight[:, :k]


def pack(machine, n, k, q_weight, q_scale, symbolic=False):
    groups, blocks = q4_groups(k), q4_blocks(n)
    w = np.full((blocks, groups, 4, 64), 0xA5, "uint8")
    s = np.full((blocks, groups, 16), np.nan, q_scale.dtype)
    machine(repack_q4(None if symbolic else n, k, str(q_scale.dtype)), q_weight, q_scale, w, s)
    return w, s


def check_linear(machine, rng, n, k, m, scale="float16", x_dtype="float32", activations="a16"):
    q_weight, q_scale, weight = quantised(rng, n, k, scale)
    w, s = pack(machine, n, k, q_weight, q_scale)
    x = (rng.standard_normal((m, k)) * rng.uniform(0.1, 4, (m, 1))).astype(x_dtype)
    y = np.full((m, n), np.nan, "float32")
    rows = 1 if m == 1 else None
    primfunc = q4_linear(n, k, rows, scale, x_dtype, "float32", machine.isa, activations)
    machine(primfunc, x, w, s, y)
    exact = x.astype("float64") @ weight.T.astype("float64")
    bound = error_bound(x, weight, LIMIT[activations])
    np.testing.assert_array_less(np.abs(y - exact), bound)


@pytest.mark.parametrize(("activations", "m"), [("a16", 1), ("a8", 1), ("a8", 33)])
def test_linear_on_every_instruction_set(every_machine, rng, activations, m):
    check_linear(every_machine, rng, 64, 96, m, activations=activations)


@pytest.mark.parametrize("m", [2, 7, 8, 9, 16, 17])
def test_linear_any_number_of_tokens(machine, rng, m):
    check_linear(machine, rng, 64, 128, m)


@pytest.mark.parametrize(("n", "k"), [(172, 64), (105, 88), (16, 172)])
@pytest.mark.parametrize("m", [1, 9])
def test_linear_ragged_shapes(machine, rng, n, k, m):
    check_linear(machine, rng, n, k, m, scale="float32")


# The largest sums there are, and those that bring the lower byte of two to its limits.
EXTREMES = {"a8": (127, -127, 126, 1), "a16": (32512, -32512, 32384, -32384, 127, 128)}


@given(
    codes=arrays("uint8", (32, 32), elements=st.sampled_from([0, 1, 7, 14, 15]), fill=st.just(15)),
    data=st.data(),
)
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("activations", ["a8", "a16"])
def test_integer_sums_are_exact(every_machine, activations, codes, data):
    """With activations that are integers already, nothing is rounded but the result."""
    extremes = EXTREMES[activations]
    x = data.draw(
        arrays("float32", 32, elements=st.sampled_from(extremes), fill=st.just(extremes[0]))
    )
    x[0] = extremes[0]  # so that the scale is 1, but for the rounding of its reciprocal
    words = codes.reshape(32, 4, 8).astype(np.uint32) << (4 * np.arange(8, dtype=np.uint32))
    q_scale = np.full((32, 1), 0.25, "float16")
    w, s = pack(every_machine, 32, 32, np.bitwise_or.reduce(words, axis=-1), q_scale)
    y = np.full((1, 32), np.nan, "float32")
    primfunc = q4_linear(32, 32, 1, "float16", "float32", "float32", every_machine.isa, activations)
    every_machine(primfunc, x[None], w, s, y)
    sums = (codes.astype("int64") - 7) @ x.astype("int64")
    scale = np.float32(0.25) * (np.float32(extremes[0]) * np.float32(1 / extremes[0]))
    np.testing.assert_array_equal(y[0], sums.astype("float32") * scale)


def test_scales_of_every_kind(every_machine, rng):
    """Float16 scales below the normal range and negative ones, converted as NumPy does."""
    n, k = 32, 32
    q_weight, q_scale, _ = quantised(rng, n, k, "float16")
    factor = (-1.0) ** np.arange(n)[:, None] * 2.0 ** -(np.arange(n)[:, None] % 16)
    q_scale = (q_scale * factor).astype("float16")
    w, s = pack(every_machine, n, k, q_weight, q_scale)
    y = np.full((1, n), np.nan, "float32")
    primfunc = q4_linear(n, k, 1, "float16", "float32", "float32", every_machine.isa, "a8")
    every_machine(primfunc, np.eye(1, k, dtype="float32"), w, s, y)
    first = np.float32(q_weight[:, 0] & 15) - 7
    np.testing.assert_allclose(y[0], first * q_scale[:, 0].astype("float32"), rtol=1e-6)


@pytest.mark.parametrize("m", [1, 130])
def test_linear_more_tokens_than_a_chunk_and_wide_rows(machine, rng, m):
    check_linear(machine, rng, 48, 1024, m)


@pytest.mark.parametrize("m", [1, 9])
@pytest.mark.parametrize("activations", ["a8", "a16"])
def test_linear_float16(machine, rng, m, activations):
    check_linear(machine, rng, 96, 160, m, x_dtype="float16", activations=activations)


@pytest.mark.parametrize("m", [1, 5])
def test_linear_float16_output_and_symbolic_vocabulary(machine, rng, m):
    n, k = 105, 96
    q_weight, q_scale, weight = quantised(rng, n, k, "float16")
    w, s = pack(machine, n, k, q_weight, q_scale, symbolic=True)
    x = rng.standard_normal((m, k)).astype("float16")
    y = np.full((m, q4_blocks(n) * 16), np.nan, "float16")
    rows = 1 if m == 1 else None
    machine(q4_linear(None, k, rows, "float16", "float16", "float16", machine.isa), x, w, s, y)
    np.testing.assert_allclose(y[:, :n], x.astype("float32") @ weight.T, atol=2e-3, rtol=2e-3)
    assert not y[:, n:].any(), "padded rows must give logits of 0"


def test_zero_activations_give_zero(machine, rng):
    q_weight, q_scale, _ = quantised(rng, 32, 64, "float16")
    w, s = pack(machine, 32, 64, q_weight, q_scale)
    for m in (1, 3):
        y = np.full((m, 32), np.nan, "float32")
        rows = 1 if m == 1 else None
        primfunc = q4_linear(32, 64, rows, "float16", "float32", "float32", machine.isa)
        machine(primfunc, np.zeros((m, 64), "float32"), w, s, y)
        assert not y.any()


def test_packed_layout(best, rng):
    n, k = 40, 72
    q_weight, q_scale, _ = quantised(rng, n, k, "float32")
    w, s = pack(best, n, k, q_weight, q_scale)
    codes = (q_weight[:, :, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
    codes = codes.reshape(n, q4_groups(k), 2, 4, 4)  # row, group, nibble, c, j
    for row in (0, 15, 16, 39):
        stored = w.reshape(*w.shape[:3], 16, 4)[row // 16, :, :, row % 16]
        np.testing.assert_array_equal(stored & 15, codes[row, :, 0])
        np.testing.assert_array_equal(stored >> 4, codes[row, :, 1])
        np.testing.assert_array_equal(s[row // 16, :, row % 16], q_scale[row])
    assert not s.transpose(0, 2, 1).reshape(-1, q4_groups(k))[n:].any()


@pytest.mark.parametrize("k", [64, 72, 88, 105])
@pytest.mark.parametrize("out_dtype", ["float32", "float16"])
def test_embedding(machine, rng, k, out_dtype):
    n = 105
    q_weight, q_scale, weight = quantised(rng, n, k, "float16")
    w, s = pack(machine, n, k, q_weight, q_scale, symbolic=True)
    ids = np.array([0, 104, 16, 15, 17, 3, 3], "int32")
    out = np.full((len(ids), k), np.nan, out_dtype)
    machine(q4_embedding(k, "float16", out_dtype), ids, w, s, out)
    np.testing.assert_array_equal(out, weight[ids].astype(out_dtype))


@pytest.mark.parametrize(("m", "activations"), [(2, "a16"), (1, "a4")])
def test_wrong_arguments_are_named(best, m, activations):
    with pytest.raises(ValueError, match="must be"):
        q4_linear(32, 32, m, "float16", "float32", "float32", best.isa, activations)
