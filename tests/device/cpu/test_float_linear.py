"""Linear layers with float weights, their packing and their embedding against NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tvm.target import Target

from mlc_llm.compile.kernel_pipeline import compile_kernels
from mlc_llm.device.cpu.kernels.embedding import float_embedding
from mlc_llm.device.cpu.kernels.float_linear import float_blocks, float_linear, repack_float
from mlc_llm.device.cpu.kernels.isa import Isa

pytestmark = pytest.mark.matrix


def pack(machine, weight, symbolic=False):
    n, k = weight.shape
    packed = np.full((float_blocks(n), k, 16), np.nan, weight.dtype)
    machine(repack_float(None if symbolic else n, k, str(weight.dtype)), weight, packed)
    return packed


def check_linear(machine, rng, n, k, m, dtype="float32", x_dtype="float32"):
    weight = rng.standard_normal((n, k)).astype(dtype)
    x = rng.standard_normal((m, k)).astype(x_dtype)
    y = np.full((m, n), np.nan, "float32")
    primfunc = float_linear(n, k, 1 if m == 1 else None, dtype, x_dtype, "float32", machine.isa)
    machine(primfunc, x, pack(machine, weight), y)
    exact = x.astype("float64") @ weight.T.astype("float64")
    size = np.abs(x).astype("float64") @ np.abs(weight).T.astype("float64")
    np.testing.assert_array_less(np.abs(y - exact), 1e-6 * size)


@pytest.mark.parametrize("m", [1, 2, 7, 8, 9, 33, 130])
def test_linear_any_number_of_tokens(machine, rng, m):
    check_linear(machine, rng, 64, 96, m)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("n", "k"), [(172, 64), (105, 90), (31, 7), (33, 1), (1, 3)])
@pytest.mark.parametrize("m", [1, 9])
def test_linear_ragged_shapes(machine, rng, n, k, m, dtype):
    """Rows that fill no block, no pair of blocks; columns that fill no step of the loop."""
    check_linear(machine, rng, n, k, m, dtype)


@pytest.mark.parametrize("m", [1, 9])
@pytest.mark.parametrize("x_dtype", ["float32", "float16"])
def test_linear_float16_weights(machine, rng, m, x_dtype):
    check_linear(machine, rng, 88, 100, m, dtype="float16", x_dtype=x_dtype)


@pytest.mark.parametrize("m", [1, 5])
@pytest.mark.parametrize("bias", [None, "float32"])
def test_linear_float16_output_and_symbolic_vocabulary(machine, rng, m, bias):
    n, k = 105, 64
    weight = rng.standard_normal((n, k)).astype("float16")
    x = rng.standard_normal((m, k)).astype("float16")
    y = np.full((m, float_blocks(n) * 16), np.nan, "float16")
    rows = 1 if m == 1 else None
    added = rng.standard_normal(n).astype("float32") if bias else np.zeros(n, "float32")
    primfunc = float_linear(None, k, rows, "float16", "float16", "float16", machine.isa, bias=bias)
    machine(primfunc, x, pack(machine, weight, symbolic=True), *([added] if bias else []), y)
    exact = x.astype("float32") @ weight.astype("float32").T + added
    np.testing.assert_allclose(y[:, :n], exact, atol=2e-2, rtol=2e-3)
    assert not y[:, n:].any(), "padded rows must give logits of 0"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("m", [2, 127, 128, 129, 257])
def test_linear_around_a_chunk_of_tokens(best, rng, m, dtype):
    check_linear(best, rng, 40, 52, m, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("m", [1, None])
def test_linear_compiles_for_arm(m, dtype):
    target = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu"})
    primfunc = float_linear(64, 64, m, dtype, "float32", "float32", Isa.of(target))
    assembly = compile_kernels(primfunc, target).mod.inspect_source("asm")
    assert "fmla" in assembly
    assert ("fcvtl" in assembly) == (dtype == "float16"), "float16 is converted by vectors"
    assert not re.search(r"\bbl\s+__extendhfsf2", assembly), "float16 is converted by a function"


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("symbolic", [True, False])
def test_packed_layout(best, rng, dtype, symbolic):
    weight = rng.standard_normal((40, 7)).astype(dtype)
    packed = pack(best, weight, symbolic)
    rows = packed.transpose(0, 2, 1).reshape(-1, 7)
    np.testing.assert_array_equal(rows[:40], weight)
    assert not rows[40:].any()


@pytest.mark.parametrize(("dtype", "out_dtype"), [("float32", "float32"), ("float16", "float32")])
def test_embedding(machine, rng, dtype, out_dtype):
    weight = rng.standard_normal((105, 88)).astype(dtype)
    ids = np.array([0, 104, 16, 15, 17, 3, 3], "int32")
    out = np.full((len(ids), 88), np.nan, out_dtype)
    machine(float_embedding(88, dtype, out_dtype), ids, pack(machine, weight), out)
    np.testing.assert_array_equal(out, weight[ids].astype(out_dtype))
