"""Packing against the definition, one weight at a time, in plain Python and exact fractions."""

import re
from fractions import Fraction

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from mlc_llm.errors import QuantizationError
from mlc_llm.quantization import scheme
from mlc_llm.quantization.packing import dequantize, quantize, row_blocks

GROUPED = ["q4f16_1", "q4f32_1"]


def reference(w, name):
    """The codes and scales of the documented layout, written for clarity and not for speed."""
    dtype = np.dtype(scheme(name).model_dtype)
    rows, columns = w.shape
    groups = -(-columns // 32)
    words = np.zeros((rows, 4 * groups), np.uint32)
    scales = np.zeros((rows, groups), dtype)
    for row in range(rows):
        for group in range(groups):
            values = [np.float32(v) for v in w[row, 32 * group : 32 * group + 32]]
            scale = dtype.type(max(abs(v) for v in values) / np.float32(7))
            if scale == 0:
                scale = np.finfo(dtype).smallest_normal
            scales[row, group] = scale
            for position, value in enumerate(values):
                code = min(max(round(float(value / np.float32(scale))) + 7, 0), 14)
                column = 32 * group + position
                words[row, column // 8] |= np.uint32(code << (4 * (column % 8)))
    return words, scales


def unpacked(words, columns):
    """The codes (n, k), read nibble by nibble."""
    return np.array(
        [[int(row[c // 8]) >> (4 * (c % 8)) & 15 for c in range(columns)] for row in words]
    ).reshape(len(words), columns)


finite = st.floats(-1000, 1000, width=32)
tiny = st.floats(-(2.0**-13), 2.0**-13, width=32)
matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 100)),
    elements=st.one_of(finite, tiny, st.just(0.0)),
    fill=st.one_of(finite, tiny, st.just(0.0)),
)


@pytest.mark.parametrize("name", GROUPED)
@given(w=matrices)
@example(w=np.zeros((2, 40), np.float32))
@example(w=np.full((1, 33), 2.0**-24, np.float32))
@example(w=np.full((1, 32), 2.0**-21, np.float32))
@example(w=np.full((1, 1), -60000.0, np.float32))
@example(w=np.full((1, 3), 1e-45, np.float32))
def test_equals_the_definition(name, w):
    with np.errstate(under="ignore"):
        words, scales = reference(w, name)
    q_weight, q_scale = quantize(w, scheme(name))
    assert q_weight.dtype == np.uint32
    assert q_scale.dtype == scheme(name).model_dtype
    np.testing.assert_array_equal(q_weight, words)
    np.testing.assert_array_equal(q_scale, scales)


@pytest.mark.parametrize("name", GROUPED)
@given(w=matrices)
def test_values_and_error_bound(name, w):
    q_weight, q_scale = quantize(w, scheme(name))
    assert (q_scale > 0).all()
    columns = w.shape[1]
    codes = unpacked(q_weight, columns)
    assert codes.max() <= 14
    values = dequantize(q_weight, q_scale, columns)
    scales = np.repeat(q_scale.astype(np.float32), 32, axis=1)[:, :columns]
    np.testing.assert_array_equal(values, (codes - 7).astype(np.float32) * scales)
    # Half a step, and where the scale was rounded down, what the largest code cannot reach.
    largest = np.maximum(np.abs(w), np.abs(values)).astype(np.float64)
    reach = 7 * scales.astype(np.float64)
    bound = scales / 2 + np.maximum(largest - reach, 0) + 1e-6 * largest
    assert (np.abs(values - w) <= bound).all()


@pytest.mark.parametrize("columns", [1, 7, 8, 31, 33, 172])
def test_codes_past_the_row_are_zero(columns):
    q_weight, _ = quantize(np.ones((3, columns), np.float32), scheme("q4f16_1"))
    codes = unpacked(q_weight, 8 * q_weight.shape[1])
    assert (codes[:, :columns] == 14).all()
    assert (codes[:, columns:] == 0).all()


def test_an_all_zero_group_is_exact():
    q_weight, q_scale = quantize(np.zeros((2, 64), np.float32), scheme("q4f16_1"))
    assert (q_weight == 0x77777777).all()
    assert (q_scale == np.finfo(np.float16).smallest_normal).all()
    assert (dequantize(q_weight, q_scale, 64) == 0).all()


def test_scale_is_rounded_once_from_the_float32_quotient():
    w = np.full((1, 32), 1.2345678, np.float32)
    _, q_scale = quantize(w, scheme("q4f16_1"))
    exact = Fraction(float(np.float32(1.2345678))) / 7
    step = np.spacing(q_scale[0, 0])
    assert abs(Fraction(float(q_scale[0, 0])) - exact) <= Fraction(float(step)) / 2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_every_floating_dtype_is_taken(dtype):
    w = np.random.default_rng(0).standard_normal((5, 70)).astype(np.float16)
    for got, expected in zip(
        quantize(w.astype(dtype), scheme("q4f32_1")),
        quantize(w.astype(np.float32), scheme("q4f32_1")),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)


def test_blocks_do_not_show():
    """Rows are independent, so working on them in blocks gives what one row at a time gives."""
    w = np.random.default_rng(1).standard_normal((700, 300), dtype=np.float32)
    q_weight, q_scale = quantize(w, scheme("q4f16_1"))
    for row in (0, 217, 218, 219, 699):
        one_weight, one_scale = quantize(w[row : row + 1], scheme("q4f16_1"))
        np.testing.assert_array_equal(q_weight[row], one_weight[0])
        np.testing.assert_array_equal(q_scale[row], one_scale[0])


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 100))
def test_row_blocks_cover_every_row_once(rows, columns, weights):
    covered = [i for block in row_blocks(rows, columns, weights) for i in range(rows)[block]]
    assert covered == list(range(rows))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", GROUPED)
def test_not_finite(name, bad):
    w = np.zeros((3, 40), np.float32)
    w[2, 39] = bad
    with pytest.raises(QuantizationError, match="NaN or infinity"):
        quantize(w, scheme(name))


def test_too_large_for_a_float16_scale():
    w = np.full((1, 32), 1e6, np.float32)
    with pytest.raises(QuantizationError, match=r"1e\+06.*float16.*float32"):
        quantize(w, scheme("q4f16_1"))
    q_weight, q_scale = quantize(w, scheme("q4f32_1"))
    np.testing.assert_allclose(dequantize(q_weight, q_scale, 32), w, rtol=1e-6)


def test_no_groups_and_no_matrix():
    with pytest.raises(QuantizationError, match="q0f32"):
        quantize(np.zeros((2, 2), np.float32), scheme("q0f32"))
    with pytest.raises(QuantizationError, match=re.escape("(2, 2, 2)")):
        quantize(np.zeros((2, 2, 2), np.float32), scheme("q4f16_1"))


def test_shapes_that_do_not_belong_together():
    q_weight, q_scale = quantize(np.ones((2, 64), np.float32), scheme("q4f16_1"))
    with pytest.raises(QuantizationError, match="Rows of 65 weights have 12 words and 3 scales"):
        dequantize(q_weight, q_scale, 65)
    with pytest.raises(QuantizationError, match="one height"):
        dequantize(q_weight[:1], q_scale, 64)
