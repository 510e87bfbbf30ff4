"""Linear layers with weights in groups, their packing and their embedding against NumPy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tvm.script.ir_builder import tirx as T

from mlc_llm.device.cpu.kernels.dot import PlainDot
from mlc_llm.device.cpu.kernels.embedding import group_embedding
from mlc_llm.device.cpu.kernels.group_layout import Part, packed_shapes
from mlc_llm.device.cpu.kernels.group_linear import ROUNDED_TOKENS, group_linear
from mlc_llm.device.cpu.kernels.isa import GENERIC
from mlc_llm.device.cpu.kernels.vector import Accumulator, bind, vtype
from mlc_llm.plugin.scheme import Scheme, stored_tensors

pytestmark = pytest.mark.matrix

# Steps between 0 and the largest activation of a group, as rounding.py promises.
LIMIT = {"a16": 32512, "a8": 127}
Q4 = Scheme(4, "float16", 32, 7)


def check_linear(machine, rng, weight, m, x_dtype="float32", activations="a16"):
    n, k = weight.codes.shape
    x = (rng.standard_normal((m, k)) * rng.uniform(0.1, 4, (m, 1))).astype(x_dtype)
    y = np.full((m, n), np.nan, "float32")
    rows, parts = 1 if m == 1 else None, (Part(n, weight.scheme),)
    primfunc = group_linear(parts, k, rows, x_dtype, "float32", machine.isa, activations)
    machine(primfunc, x, *weight.packed(machine), y)
    exact = x.astype("float64") @ weight.values.T.astype("float64")
    bound = weight.error_bound(x, LIMIT[activations])
    np.testing.assert_array_less(np.abs(y - exact), bound)


@pytest.mark.parametrize(("activations", "m"), [("a16", 1), ("a8", 9)])
def test_linear_of_every_scheme(every_machine, rng, random_weight, scheme, activations, m):
    """Neither rows nor columns are whole blocks, groups or vectors."""
    weight = random_weight(105, 107, scheme)
    check_linear(every_machine, rng, weight, m, activations=activations)


@pytest.mark.parametrize("m", [2, 7, 8, 9, 16, 17])
def test_linear_any_number_of_tokens(machine, rng, random_weight, m):
    check_linear(machine, rng, random_weight(64, 128, Q4), m)


@pytest.mark.parametrize(("n", "k"), [(172, 64), (105, 88), (16, 172)])
@pytest.mark.parametrize("m", [1, 9])
def test_linear_ragged_shapes(machine, rng, random_weight, n, k, m):
    check_linear(machine, rng, random_weight(n, k, replace(Q4, dtype="float32")), m)


@pytest.mark.parametrize("m", [1, 130])
@pytest.mark.parametrize("bits", [4, 8])
def test_linear_more_tokens_than_a_chunk_and_wide_rows(machine, rng, random_weight, m, bits):
    check_linear(machine, rng, random_weight(48, 1024, replace(Q4, bits=bits)), m)


@pytest.mark.parametrize("activations", ["a8", "a16"])
@pytest.mark.parametrize(
    "scheme", ["4 bits", "8 bits, minimums", "6 bits, two levels"], indirect=True
)
def test_a_token_gives_the_same_bits_among_any_others(
    machine, rng, random_weight, scheme, activations
):
    """Alone, among a few, and in a second chunk."""
    n, k = 48, 200
    packed, parts = random_weight(n, k, scheme).packed(machine), (Part(n, scheme),)
    x = rng.standard_normal((ROUNDED_TOKENS + 2, k)).astype("float32")

    def linear(rows):
        y, m = np.full((len(rows), n), np.nan, "float32"), 1 if len(rows) == 1 else None
        primfunc = group_linear(parts, k, m, "float32", "float32", machine.isa, activations)
        machine(primfunc, rows, *packed, y)
        return y

    whole = linear(x)
    for begin, end in ((0, 1), (0, 2), (3, 8), (40, 56), (129, 130), (127, 130)):
        np.testing.assert_array_equal(linear(x[begin:end]), whole[begin:end])


@pytest.mark.parametrize("m", [1, 9])
@pytest.mark.parametrize("activations", ["a8", "a16"])
def test_linear_float16(machine, rng, random_weight, m, activations):
    weight = random_weight(96, 160, Q4)
    check_linear(machine, rng, weight, m, x_dtype="float16", activations=activations)


# The largest sums there are, and those that bring the lower byte of two to its limits.
EXTREMES = {"a8": (127, -127, 126, 1), "a16": (32512, -32512, 32384, -32384, 127, 128)}
LARGE_SUMS = [
    "4 bits",
    "4 bits, groups of 40",
    "6 bits, groups of 48",
    "8 bits",
    "8 bits, minimums",
]


@given(data=st.data())
@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("activations", ["a8", "a16"])
@pytest.mark.parametrize("scheme", LARGE_SUMS, indirect=True)
def test_integer_sums_are_exact(every_machine, weight_of, scheme, activations, data):
    """With activations that are integers already, nothing is rounded but the results."""
    k, top, extremes = scheme.group, 2**scheme.bits - 1, EXTREMES[activations]
    some = st.sampled_from([0, 1, top // 2, top // 2 + 1, top - 1, top])
    codes = data.draw(arrays("int64", (32, k), elements=some, fill=st.just(top)))
    x = data.draw(
        arrays("float32", k, elements=st.sampled_from(extremes), fill=st.just(extremes[0]))
    )
    x[0] = extremes[0]  # so that the step is 1, but for the rounding of its reciprocal
    scales = np.full((32, 1), 0.25)
    weight = weight_of(codes, k, scheme, scales, scales / 2)
    y = np.full((1, 32), np.nan, "float32")
    parts = (Part(32, scheme),)
    primfunc = group_linear(parts, k, 1, "float32", "float32", every_machine.isa, activations)
    every_machine(primfunc, x[None], *weight.packed(every_machine), y)
    sums = (codes - (scheme.zero or 0)) @ x.astype("int64")
    step = np.float32(extremes[0]) * np.float32(1 / extremes[0])
    expected = sums.astype("float32") * (np.float32(0.25) * step)
    if scheme.has_minimum:
        expected = expected + np.float32(0.125) * (np.float32(x.astype("int64").sum()) * step)
        # A product more, which may be rounded together with the sum.
        np.testing.assert_allclose(y[0], expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(y[0], expected)


@dataclass(frozen=True)
class SignedDot(PlainDot):
    """An instruction set whose bytes of codes are signed, as Arm's, in plain code."""

    whole_bytes: ClassVar[bool] = True
    sum_bits: ClassVar[int] = 32
    products: ClassVar[int] = 4

    def sum(self, start):
        return Accumulator(self.lanes, start, "int32")

    def add(self, total, codes, word):
        wide = vtype("int32", 4 * self.lanes)
        a, b = (T.Cast(wide, self._bytes(v)) for v in (codes, word))
        products = bind(a * b)
        for j in range(4):
            total.add(T.Shuffle([products], list(range(j, 4 * self.lanes, 4))))

    def finish(self, total, start):
        return total


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize(
    "scheme",
    ["4 bits", "7 bits", "8 bits, groups of 16", "8 bits, minimums", "6 bits, two levels"],
    indirect=True,
)
def test_linear_with_signed_bytes_and_words_by_lane(best, rng, random_weight, scheme, m):
    isa = replace(GENERIC, dot=SignedDot(4, signed=True), by_lane=True)
    check_linear(replace(best, isa=isa), rng, random_weight(33, 107, scheme), m)


def test_scales_of_every_kind(every_machine, weight_of, rng):
    """Float16 scales below the normal range and negative ones, converted as NumPy does."""
    n, k = 32, 32
    codes = rng.integers(0, 16, (n, k))
    factor = (-1.0) ** np.arange(n)[:, None] * 2.0 ** -(np.arange(n)[:, None] % 16)
    scales = rng.uniform(0.002, 0.02, (n, 1)) * factor
    weight = weight_of(codes, k, replace(Q4, zero=None), scales, scales[::-1])
    y = np.full((1, n), np.nan, "float32")
    parts = (Part(n, weight.scheme),)
    primfunc = group_linear(parts, k, 1, "float32", "float32", every_machine.isa, "a8")
    every_machine(primfunc, np.eye(1, k, dtype="float32"), *weight.packed(every_machine), y)
    terms = (codes[:, :1] * weight.scales.astype("float64"), weight.minimums.astype("float64"))
    size = np.abs(terms[0]) + np.abs(terms[1])
    np.testing.assert_array_less(np.abs(y[0] - sum(terms)[:, 0]), 1e-6 * size[:, 0] + 1e-12)


@pytest.mark.parametrize("scheme", ["4 bits", "8 bits, minimums"], indirect=True)
def test_zero_activations_give_zero(machine, random_weight, scheme):
    weight = random_weight(32, 64, scheme)
    for m in (1, 3):
        y = np.full((m, 32), np.nan, "float32")
        parts = (Part(32, scheme),)
        primfunc = group_linear(parts, 64, 1 if m == 1 else None, "float32", "float32", machine.isa)
        machine(primfunc, np.zeros((m, 64), "float32"), *weight.packed(machine), y)
        assert not y.any()


@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize("bias", [None, "float16"])
@pytest.mark.parametrize("scheme", ["4 bits", "8 bits, minimums"], indirect=True)
def test_linear_float16_output_and_symbolic_vocabulary(
    machine, rng, random_weight, scheme, m, bias
):
    n, k = 105, 96
    weight = random_weight(n, k, scheme)
    x = rng.standard_normal((m, k)).astype("float16")
    added = rng.standard_normal(n).astype(bias or "float32")
    packed = weight.packed(machine, symbolic=True)
    y = np.full((m, packed[0].shape[0] * 16), np.nan, "float16")
    parts, rows = (Part(None, scheme),), 1 if m == 1 else None
    primfunc = group_linear(parts, k, rows, "float16", "float16", machine.isa, bias=bias)
    machine(primfunc, x, *packed, *([added] if bias else []), y)
    expected = x.astype("float32") @ weight.values.T + (added if bias else 0)
    np.testing.assert_allclose(y[:, :n], expected, atol=4e-3, rtol=2e-3)
    assert not y[:, n:].any(), "padded rows must give logits of 0"


@pytest.mark.parametrize("symbolic", [True, False])
def test_packed_layout(best, random_weight, scheme, symbolic):
    n, k, group = 40, 72, scheme.group
    weight = random_weight(n, k, scheme)
    packed = weight.packed(best, symbolic)
    shapes = packed_shapes(Part(n, scheme), k)
    assert [(t.shape, str(t.dtype)) for t in packed] == shapes
    assert packed_shapes(Part(None, scheme), k)[0][0] == ("vocab_blocks", *shapes[0][0][1:])
    nibbles = scheme.bits <= 6
    for column in range(k):
        g, place = divmod(column, group)
        half, place = divmod(place, group // 2) if nibbles else (0, place)
        c, j = divmod(place, 4)
        for row in (0, 15, 16, 39):
            chunks = packed[0][row // 16, g, :, 4 * (row % 16) + j]
            code = chunks[c] >> 4 * half & 15 if nibbles else chunks[c]
            if scheme.bits in (5, 6):
                high = scheme.bits - 4
                chunk, number = divmod(2 * c + half, 8 // high)
                code |= (chunks[group // 8 + chunk] >> high * number & (2**high - 1)) << 4
            assert code == weight.codes[row, column]
    for factors, expected in zip(packed[1:], weight.factors, strict=True):
        rows = factors.transpose(0, 2, 1).reshape(-1, expected.shape[1])
        np.testing.assert_array_equal(rows[:n], expected)
        assert not rows[n:].any()


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
@pytest.mark.parametrize("super_group", [None, 256])
def test_a_packed_weight_is_as_large_as_a_stored_one(bits, super_group):
    scheme = Scheme(bits, "float16", 32, super_group=super_group)
    stored = stored_tensors("x.weight", ((64, scheme),), 512)
    packed = packed_shapes(Part(64, scheme), 512)
    sizes = [
        sum(np.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in tensors)
        for tensors in (packed, [(tensor.shape, tensor.dtype) for tensor in stored])
    ]
    assert sizes[0] == sizes[1]


def look_up(machine, weight, out_dtype):
    """Some rows of a table, and what they must be."""
    n, k = weight.codes.shape
    ids = np.array([0, n - 1, 16, 15, 17, 3, 3], "int32")
    out = np.full((len(ids), k), np.nan, out_dtype)
    primfunc = group_embedding(weight.scheme, k, out_dtype)
    machine(primfunc, ids, *weight.packed(machine, symbolic=True), out)
    return out, weight.values[ids].astype(out_dtype)


@pytest.mark.parametrize("k", [64, 72, 88, 105])
@pytest.mark.parametrize("out_dtype", ["float32", "float16"])
def test_embedding(machine, random_weight, k, out_dtype):
    out, expected = look_up(machine, random_weight(105, k, Q4), out_dtype)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("k", [80, 107])
def test_embedding_of_every_scheme(best, random_weight, scheme, k):
    out, expected = look_up(best, random_weight(105, k, scheme), "float32")
    if scheme.has_minimum:  # a product and a sum, which may be rounded together
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
    else:
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("m", "activations"), [(2, "a16"), (1, "a4")])
def test_wrong_arguments_are_named(best, m, activations):
    with pytest.raises(ValueError, match="must be"):
        group_linear((Part(32, Q4),), 32, m, "float32", "float32", best.isa, activations)


def test_a_vocabulary_is_the_only_part(best):
    parts = (Part(32, Q4), Part(None, Q4))
    with pytest.raises(ValueError, match="the only one"):
        group_linear(parts, 32, 1, "float32", "float32", best.isa)


@pytest.mark.parametrize("other", [Scheme(16, "float16"), Scheme(3, "float16", 10, 3)])
def test_schemes_that_no_kernel_takes(other):
    with pytest.raises(ValueError, match="must have at most 8 bits and groups be multiples of 8"):
        Part(32, other)
