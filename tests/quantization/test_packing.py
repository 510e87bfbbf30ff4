"""Packing against the definition, one weight at a time, in plain Python."""

from dataclasses import replace
from fractions import Fraction

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from mlc_llm.errors import QuantizationError
from mlc_llm.plugin.scheme import Scheme, stored_tensors
from mlc_llm.quantization import plan
from mlc_llm.quantization.codes import pack_codes, unpack_codes
from mlc_llm.quantization.packing import (
    dequantize,
    quantize,
    quantize_rows,
    row_blocks,
)
from mlc_llm.testing import raises

Q4 = plan("q4f16_1").linear
Q4_MINIMUM = plan("q4f16_m").linear

SCHEMES = [
    plan("q3f16_1").linear,
    plan("q4f16_0").linear,
    Q4,
    plan("q4f32_1").linear,
    Q4_MINIMUM,
    Scheme(4, "float32", group=32, layout="columns"),
    plan("q8f16_16").linear,
    plan("q8f16_32").linear,
    Scheme(8, "float32", group=4, zero=127),
    Scheme(5, "float16", group=32, zero=15),
    Scheme(6, "float32", group=16, layout="columns"),
    Scheme(2, "float32", group=16),
]
EVERY_SCHEME = pytest.mark.parametrize("scheme", SCHEMES, ids=str)


def definition(w, scheme):
    """The tensors of a matrix as the layout is documented, written for clarity and not for speed.

    Words are built up from nothing but codes and places, and transposed at last.
    """
    dtype = np.dtype(scheme.dtype)
    rows, columns = w.shape
    groups = -(-columns // scheme.group)
    planes = {5: (4, 1), 6: (4, 2)}.get(scheme.bits, (scheme.bits,))
    packed = [np.zeros((rows, groups * scheme.group // (32 // b)), np.uint32) for b in planes]
    scales, minimums = np.zeros((rows, groups), dtype), np.zeros((rows, groups), dtype)
    for row in range(rows):
        for group in range(groups):
            first = group * scheme.group
            values = [np.float32(v) for v in w[row, first : first + scheme.group]]
            codes, scales[row, group], minimums[row, group] = group_codes(values, scheme)
            for column, code in enumerate(codes, first):
                for words, bits in zip(packed, planes, strict=True):
                    word, place = divmod(column, 32 // bits)
                    words[row, word] |= np.uint32(code % 2**bits << (bits * place))
                    code >>= bits
    tensors = [*packed, scales] if scheme.zero is not None else [*packed, scales, minimums]
    return [t.T for t in tensors] if scheme.layout == "columns" else tensors


def group_codes(values, scheme):
    """Codes, scale and minimum of a group; without a minimum, that is zero."""
    dtype = np.dtype(scheme.dtype).type
    if scheme.zero is None:
        most = 2**scheme.bits - 1
        minimum = dtype(min(values))
        span = max(max(values) - np.float32(minimum), np.float32(0))
        scale = dtype(span / np.float32(most)) or np.finfo(dtype).smallest_normal
        steps = [(v - np.float32(minimum)) / np.float32(scale) for v in values]
        return [min(max(round(float(s)), 0), most) for s in steps], scale, minimum
    largest = max(abs(v) for v in values)
    scale = dtype(largest / np.float32(scheme.zero)) or np.finfo(dtype).smallest_normal
    steps = [v / np.float32(scale) for v in values]
    codes = [min(max(round(float(s)) + scheme.zero, 0), 2 * scheme.zero) for s in steps]
    return codes, scale, dtype(0)


def unpacked(planes, columns, scheme):
    """The codes (n, k) of words (n, m) of each plane, read code by code."""
    widths = {5: (4, 1), 6: (4, 2)}.get(scheme.bits, (scheme.bits,))
    codes = np.zeros((len(planes[0]), len(columns)), int)
    for words, bits, shift in zip(planes, widths, (0, 4), strict=False):
        for row, place in np.ndindex(codes.shape):
            word, position = divmod(columns[place], 32 // bits)
            code = int(words[row, word]) >> (bits * position) & (2**bits - 1)
            codes[row, place] |= code << shift
    return codes


def divided(tensors, scheme):
    """The planes of the codes, and the other tensors, with rows on the first axis."""
    count = 2 if scheme.bits in (5, 6) else 1
    tensors = by_rows(tensors, scheme)
    return tensors[:count], tensors[count:]


def by_rows(tensors, scheme):
    return [t.T for t in tensors] if scheme.layout == "columns" else tensors


finite = st.floats(-1000, 1000, width=32)
tiny = st.floats(-(2.0**-13), 2.0**-13, width=32)
shifted = st.floats(99.75, 100.25, width=32)
elements = st.one_of(finite, tiny, shifted, st.just(0.0))
matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 100)),
    elements=elements,
    fill=elements,
)


@EVERY_SCHEME
@given(w=matrices)
@example(w=np.zeros((2, 40), np.float32))
@example(w=np.full((1, 33), 2.0**-24, np.float32))
@example(w=np.full((1, 32), 2.0**-21, np.float32))
@example(w=np.full((1, 1), -60000.0, np.float32))
@example(w=np.full((1, 3), 1e-45, np.float32))
@example(w=np.linspace(100, 100.01, 32, dtype=np.float32)[None])
def test_equals_the_definition(scheme, w):
    with np.errstate(under="ignore"):
        expected = definition(w, scheme)
    tensors = quantize(w, scheme)
    declared = stored_tensors("x.weight", ((w.shape[0], scheme),), w.shape[1])
    assert [(t.shape, t.dtype) for t in tensors] == [(t.shape, t.dtype) for t in declared]
    for got, wanted in zip(tensors, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
        assert got.flags.c_contiguous


@EVERY_SCHEME
@given(w=matrices)
def test_values_and_error_bound(scheme, w):
    tensors = quantize(w, scheme)
    columns = w.shape[1]
    planes, others = divided(tensors, scheme)
    codes = unpacked(planes, range(columns), scheme)
    scale, *minimum = (
        np.repeat(other.astype(np.float64), scheme.group, axis=1)[:, :columns] for other in others
    )
    assert (scale > 0).all()
    exact = (codes - scheme.zero) * scale if not minimum else codes * scale + minimum[0]
    values = dequantize(tensors, columns, scheme)
    size = np.abs(w).max() + np.abs(values).max()
    np.testing.assert_allclose(values, exact, rtol=0, atol=2.0**-23 * size)
    # Half a step, and where what is stored was rounded, what the codes do not reach.
    low = -scheme.zero * scale if not minimum else minimum[0]
    high = scheme.zero * scale if not minimum else low + (2**scheme.bits - 1) * scale
    beyond = np.maximum(np.maximum(low - w, w - high), 0)
    error = np.abs(values.astype(np.float64) - w)
    assert (error <= scale / 2 + beyond + 2.0**-22 * size).all()
    assert (beyond <= documented_loss(scheme, w, scale, minimum) + 2.0**-22 * size).all()


def documented_loss(scheme, w, scale, minimum):
    """What rounding scale and minimum may lose; subnormal ones are rounded more coarsely."""
    kind = np.finfo(scheme.dtype)
    u, subnormal = 2.0 ** -(kind.nmant + 1), float(kind.smallest_subnormal) / 2
    steps = 2 ** (scheme.bits if minimum else scheme.bits - 1)
    loss = steps * (u * scale + subnormal)
    return loss + u * np.abs(minimum[0]) + subnormal if minimum else loss


@EVERY_SCHEME
@pytest.mark.parametrize("value", [0.0, 1.5, -3.0, 0.1, 1000.0, -(2.0**-20)])
@pytest.mark.parametrize("columns", [1, 45])
def test_constant_groups(scheme, value, columns):
    w = np.full((2, columns), value, np.float32)
    values = dequantize(quantize(w, scheme), columns, scheme)
    # With a zero, the scale is rounded; with a minimum, the minimum is, and nothing else matters.
    u = 2.0 ** -(np.finfo(scheme.dtype).nmant + 1)
    lost = u * abs(value) + float(np.finfo(scheme.dtype).smallest_subnormal) * 2**scheme.bits
    np.testing.assert_allclose(values, w, rtol=2.0**-22, atol=lost)
    if scheme.zero is None and scheme.dtype == "float32":
        np.testing.assert_array_equal(values, w)


@EVERY_SCHEME
def test_codes_past_the_row_are_zero_and_change_nothing(scheme):
    w = np.random.default_rng(2).standard_normal((3, scheme.group + 3), np.float32) + 5
    planes, others = divided(quantize(w, scheme), scheme)
    codes = unpacked(planes, range(2 * scheme.group), scheme)
    assert (codes[:, w.shape[1] :] == 0).all()
    last_planes, last_others = divided(quantize(w[:, scheme.group :], scheme), scheme)
    for words, last_words in zip(planes, last_planes, strict=True):
        np.testing.assert_array_equal(words[:, words.shape[1] // 2 :], last_words)
    for other, last in zip(others, last_others, strict=True):
        np.testing.assert_array_equal(other[:, 1:], last)


def test_an_all_zero_group_is_exact():
    q_weight, q_scale = quantize(np.zeros((2, 64), np.float32), Q4)
    assert (q_weight == 0x77777777).all()
    assert (q_scale == np.finfo(np.float16).smallest_normal).all()
    assert (dequantize([q_weight, q_scale], 64, Q4) == 0).all()


def test_scale_is_rounded_once_from_the_float32_quotient():
    _, q_scale = quantize(np.full((1, 32), 1.2345678, np.float32), Q4)
    exact = Fraction(float(np.float32(1.2345678))) / 7
    step = np.spacing(q_scale[0, 0])
    assert abs(Fraction(float(q_scale[0, 0])) - exact) <= Fraction(float(step)) / 2


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scheme", [plan("q4f32_1").linear, Q4_MINIMUM], ids=str)
def test_every_floating_dtype_is_taken(dtype, scheme):
    w = np.random.default_rng(0).standard_normal((5, 70)).astype(np.float16)
    expected = quantize(w.astype(np.float32), scheme)
    for got, wanted in zip(quantize(w.astype(dtype), scheme), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@EVERY_SCHEME
def test_blocks_do_not_show(scheme):
    """Rows are independent, so working on them in blocks gives what one row at a time gives."""
    w = np.random.default_rng(1).standard_normal((500, 300), dtype=np.float32)
    tensors = quantize_rows(w, scheme)
    for row in (0, 217, 218, 219, 499):
        for tensor, one in zip(tensors, quantize_rows(w[row : row + 1], scheme), strict=True):
            np.testing.assert_array_equal(tensor[row], one[0])
    values = dequantize(quantize(w, scheme), 300, scheme)
    some = dequantize(quantize(w[217:220], scheme), 300, scheme)
    np.testing.assert_array_equal(values[217:220], some)


@pytest.mark.parametrize("scheme", [s for s in SCHEMES if s.zero is not None], ids=str)
@pytest.mark.parametrize("layout", ["rows", "columns"])
@given(data=st.data())
def test_any_zero_can_be_read(scheme, layout, data):
    zero = data.draw(st.integers(0, 2**scheme.bits - 1))
    columns = data.draw(st.integers(1, 3)) * scheme.group - data.draw(st.integers(0, 3))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    widths = [scheme.words(columns, plane) for plane in range(len(scheme.planes))]
    planes = [random.integers(0, 2**32, (2, width), np.uint32) for width in widths]
    scales = random.standard_normal((2, scheme.groups(columns))).astype(scheme.dtype)
    stored = replace(scheme, zero=zero, layout=layout)
    values = dequantize(by_rows([*planes, scales], stored), columns, stored)
    codes = unpacked(planes, range(columns), scheme)
    repeated = np.repeat(scales.astype(np.float32), scheme.group, axis=1)[:, :columns]
    np.testing.assert_array_equal(values, (codes - zero).astype(np.float32) * repeated)


@pytest.mark.parametrize("zero", [0, 6, 8])
def test_other_zeros_cannot_be_quantised_to(zero):
    with raises("quantization-invalid", f"zero {zero}", 7, error=QuantizationError):
        quantize(np.zeros((2, 2), np.float32), replace(Q4, zero=zero))


TWO_LEVELS = [
    Scheme(4, "float16", group=32, super_group=256),
    Scheme(5, "float16", group=32, super_group=64, layout="columns"),
    Scheme(6, "float16", group=16, zero=32, super_group=256),
    Scheme(8, "float32", group=32, zero=100, super_group=32),
]


@pytest.mark.parametrize("scheme", TWO_LEVELS, ids=str)
@pytest.mark.parametrize("columns", [1, 300, 512])
def test_two_levels(scheme, columns):
    """A weight is made of its code and what its group and its super group have."""
    random, stored = np.random.default_rng(columns), {}
    for tensor in stored_tensors("x.weight", ((3, scheme),), columns):
        if tensor.dtype == "uint32":
            values = random.integers(0, 2**32, tensor.shape, np.uint32)
        elif tensor.dtype == "int8":
            values = random.integers(-128, 128, tensor.shape, np.int8)
        else:
            values = random.standard_normal(tensor.shape).astype(tensor.dtype)
        stored[tensor.name.removeprefix("x.")] = values
    rows = {name: t.T if scheme.layout == "columns" else t for name, t in stored.items()}
    planes = [rows[name] for name in ("q_weight", "q_high") if name in rows]
    codes = unpacked(planes, range(columns), scheme)
    expected = np.zeros((3, columns))
    for row, column in np.ndindex(expected.shape):
        group, over = (row, column // scheme.group), (row, column // scheme.super_group)
        scale = np.float64(rows["q_super"][over]) * rows["q_scale"][group]
        if scheme.zero is None:
            minimum = np.float64(rows["q_super_min"][over]) * rows["q_min"][group]
            expected[row, column] = codes[row, column] * scale + minimum
        else:
            expected[row, column] = (codes[row, column] - scheme.zero) * scale
    values = dequantize(list(stored.values()), columns, scheme)
    size = np.abs(expected).max()
    if scheme.zero is None:  # the only rounding is that of the sum
        np.testing.assert_allclose(values, expected, rtol=0, atol=2.0**-23 * size)
    elif scheme.dtype == "float16":
        np.testing.assert_array_equal(values, expected)
    else:
        np.testing.assert_allclose(values, expected, rtol=2.0**-22)


@pytest.mark.parametrize("scheme", TWO_LEVELS, ids=str)
def test_two_levels_cannot_be_quantised_to(scheme):
    with raises("quantization-invalid", str(scheme), error=QuantizationError):
        quantize(np.zeros((2, 2), np.float32), scheme)


@EVERY_SCHEME
def test_codes_are_packed_as_they_are(scheme):
    random = np.random.default_rng(0)
    codes = random.integers(0, 2**scheme.bits, (3, scheme.group + 3))
    planes = pack_codes(codes, scheme)
    declared = stored_tensors("x.weight", ((3, replace(scheme, layout="rows")),), codes.shape[1])
    for words, tensor in zip(planes, declared, strict=False):
        assert (words.shape, words.dtype) == (tensor.shape, tensor.dtype)
    padded = np.pad(codes, ((0, 0), (0, scheme.group - 3)))
    np.testing.assert_array_equal(unpacked(planes, range(2 * scheme.group), scheme), padded)
    np.testing.assert_array_equal(unpack_codes(planes, codes.shape[1], scheme), codes)


@pytest.mark.parametrize("wrong", [[[16]], [[-1]], [[1.0]], [1]])
def test_what_is_no_matrix_of_codes(wrong):
    with raises("quantization-invalid", error=QuantizationError):
        pack_codes(np.array(wrong), Q4)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 100))
def test_row_blocks_cover_every_row_once(rows, columns, weights):
    covered = [i for block in row_blocks(rows, columns, weights) for i in range(rows)[block]]
    assert covered == list(range(rows))


@EVERY_SCHEME
@pytest.mark.parametrize("shape", [(0, 40), (3, 0)])
def test_empty(scheme, shape):
    tensors = quantize(np.zeros(shape, np.float32), scheme)
    assert dequantize(tensors, shape[1], scheme).shape == shape


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scheme", [*SCHEMES, Scheme(16, "float16")], ids=str)
def test_not_finite(scheme, bad):
    w = np.zeros((3, 40), np.float32)
    w[2, 39] = bad
    with raises("weight-not-finite", error=QuantizationError):
        quantize(w, scheme)


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        (Q4, "142857"),
        (Q4_MINIMUM, "1e+06"),
        (Scheme(16, "float16"), "1e+06"),
    ],
    ids=str,
)
def test_too_large_for_float16(scheme, value):
    w = np.full((1, 32), 1e6, np.float32)
    with raises("weight-too-large", value, "float16", "float32"):
        quantize(w, scheme)
    wider = replace(scheme, dtype="float32", bits=32 if scheme.is_float else scheme.bits)
    np.testing.assert_allclose(dequantize(quantize(w, wider), 32, wider), w, rtol=1e-6)


def test_too_large_a_span_for_float32():
    w = np.array([[-3e38, 3e38]], np.float32)
    with raises("weight-too-large", "6e+38", "float32", error=QuantizationError):
        quantize(w, Scheme(4, "float32", group=32))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_are_rounded(dtype):
    w = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    scheme = Scheme(np.dtype(dtype).itemsize * 8, dtype)
    [stored] = quantize(w, scheme)
    np.testing.assert_array_equal(stored, w.astype(dtype))
    assert stored.dtype == dtype
    values = dequantize([stored], 5, scheme)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, stored)


@pytest.mark.parametrize("scheme", [Q4, Scheme(16, "float16")], ids=str)
def test_only_matrices(scheme):
    with raises("quantization-invalid", "(2, 2, 2)"):
        quantize(np.zeros((2, 2, 2), np.float32), scheme)


def test_shapes_that_do_not_belong_together():
    q_weight, q_scale = quantize(np.ones((2, 64), np.float32), Q4)
    with raises("quantization-invalid", 65, "(rows, 12)", "(rows, 3)", error=QuantizationError):
        dequantize([q_weight, q_scale], 65, Q4)
    for wrong in ([q_weight[:1], q_scale], [q_weight], [q_weight, q_scale, q_scale], []):
        with raises("quantization-invalid", "(rows, 8)"):
            dequantize(wrong, 64, Q4)
    transposed = replace(Q4, layout="columns")
    with raises("quantization-invalid", "(8, rows)", "(2, rows)", "(2, 8)"):
        dequantize([q_weight, q_scale], 64, transposed)
