"""Products of few tokens with weights of 4 bits, on the emulated GPU, against NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import gemv as other
from mlc_llm_cuda.kernels import linear
from mlc_llm_cuda.kernels import matmul as many

from mlc_llm.compile.gpu.kernels.activation import FUNCTIONS
from mlc_llm.compile.gpu.kernels.linear import Product
from mlc_llm.compile.gpu.kernels.linear import gemv as shared_gemv
from mlc_llm.compile.gpu.kernels.norm import RMSNormKind
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.testing.gpu_kernels.activation import activated
from mlc_llm.testing.gpu_kernels.linear import stored
from mlc_llm.testing.gpu_kernels.norm import rms
from mlc_llm.testing.gpu_kernels.suite import UNIT

from .gpu import GPU
from .marks import only_in_matrix
from .target import TARGET

CAPABILITIES = capabilities_of(TARGET)
Q4 = Scheme(4, "float16", group=32, zero=7)


@pytest.fixture(params=["forward", "reverse"])
def ordered(gpu: GPU, request: pytest.FixtureRequest) -> Iterator[GPU]:
    """The GPU, whose threads and blocks run in one order and in the other."""
    gpu.set("ORDER", request.param)
    yield gpu
    gpu.set("ORDER", None)


def check(
    gpu: GPU,
    columns: int,
    rows: int,
    tokens: int,
    *,
    single: bool = False,
    scheme: Scheme = Q4,
    known: bool = True,
    **more: Any,
) -> None:
    """The result is as exact as `linear.py` says; scales are from 2^-14 to 16, a few are 0.

    Args:
        gpu: where it is computed.
        columns, rows: of the weight.
        tokens: rows of x.
        single: whether the kernel is the one for one token.
        scheme: how the weight is stored.
        known: whether the kernel knows the number of rows.
        more: of the :class:`Product`.
    """
    outputs = rows // 2 if more.get("gate") else rows
    kind = {"dtype": "float16", "out_dtype": "float32", **more}
    product = Product(weight_of(scheme, columns), outputs if known else None, **kind)
    rng = np.random.default_rng(columns + rows + tokens)
    (words, scales), values = stored(rng, rows, columns, scheme)
    factors = np.float16(2.0) ** rng.integers(-13, 4, scales.shape) * (
        rng.random(scales.shape) < 0.9
    )
    scales *= factors.astype("float16")
    values *= np.repeat(factors.astype(float), scheme.group, 1)
    x = rng.standard_normal((tokens, columns)).astype("float16")
    given, inputs, input_error = [x], x.astype(float), 0.0
    if product.norm is not None:
        given.append(rng.standard_normal(columns).astype(product.norm.weight_dtype))
        factor = given[1] + np.float64(product.norm.unit_offset)
        inputs, input_error = rms(x, factor), 2.0**-11 + 1e-6  # rounded to float16
    given += [words, scales]
    b = rng.standard_normal(rows).astype(product.bias or "float32") * (product.bias is not None)
    given += [] if product.bias is None else [b]
    r = rng.standard_normal((tokens, outputs)).astype(product.out_dtype) * product.residual
    given += [r] if product.residual else []
    y = np.full((tokens, outputs), np.nan, product.out_dtype)
    gpu.run_kernel((linear.gemv if single else linear.matmul)(product, CAPABILITIES), *given, y)

    exact = inputs @ values.T + b
    terms = np.abs(inputs) @ np.abs(values).T
    error = (columns + 2) * UNIT * (terms + np.abs(b)) + input_error * terms
    if tokens > linear.MOST_TOKENS:
        error += 2.0**-11 * terms  # as `matmul.py` says
    if product.gate is not None:
        exact, error = gated(product.gate, exact, error)
    exact += r
    error += 4 * UNIT * (np.abs(exact) + np.abs(r))
    if y.dtype == "float16":
        error += np.maximum(np.abs(exact) * np.finfo(y.dtype).eps, 2.0**-24)
    assert (np.abs(y - exact) <= error).all()


def gated(name: str, x: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A function of the first half, times the second, and how far off it is if x is."""
    (a, b), (a_error, b_error) = (np.split(one, 2, axis=1) for one in (x, error))
    f, f_error = activated(name, a)
    for sign in (-1, 1):
        f_error = f_error + np.abs(activated(name, a + sign * a_error)[0] - f)
    return f * b, f_error * (np.abs(b) + b_error) + np.abs(f) * b_error


def test_one_token(ordered: GPU) -> None:
    """Rows that fill no block, columns that fill no piece, and a bias."""
    check(ordered, 192, 35, 1, single=True, bias="float16")


def test_what_is_folded_into_one_token(ordered: GPU) -> None:
    """As in a layer of a Llama: before a norm, after it a gated activation, or a residual."""
    norm = RMSNormKind(1e-5, False, "float16")
    check(ordered, 192, 38, 1, single=True, norm=norm, gate="silu", out_dtype="float16")
    check(ordered, 192, 38, 1, single=True, residual=True, out_dtype="float16")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [2304, *only_in_matrix([64, 8192])])
@pytest.mark.parametrize(("offset", "dtype"), [(False, "float32"), (True, "float16")])
def test_norms_of_every_kind(ordered: GPU, columns: int, offset: bool, dtype: str) -> None:
    norm = RMSNormKind(1e-5, offset, dtype)
    check(ordered, columns, 24, 1, single=True, norm=norm)
    check(ordered, columns, 24, 1, single=True, norm=norm, bias="float16", residual=True)


@pytest.mark.slow
@pytest.mark.parametrize("gate", FUNCTIONS)
def test_gates_of_every_kind(ordered: GPU, gate: str) -> None:
    check(ordered, 128, 34, 1, single=True, gate=gate, bias="float16")
    check(ordered, 128, 34, 9, gate=gate)


@pytest.mark.parametrize("tokens", [1, 16, 40])
def test_what_is_folded_into_few_tokens_and_more(ordered: GPU, tokens: int) -> None:
    check(ordered, 128, 38, tokens, gate="silu", bias="float16")
    check(ordered, 128, 38, tokens, residual=True, out_dtype="float16")


@pytest.mark.parametrize("tokens", [1, 7, 16, 18])
def test_few_tokens_and_more(ordered: GPU, tokens: int) -> None:
    check(ordered, 256, 16, tokens, known=False)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [576, 11008, *only_in_matrix([64, 128, 4096])])
@pytest.mark.parametrize("out", ["float16", "float32"])
def test_columns_of_every_kind(ordered: GPU, columns: int, out: str) -> None:
    check(ordered, columns, 24, 1, single=True, out_dtype=out)
    check(ordered, columns, 17, 9, out_dtype=out)


@pytest.mark.slow
@pytest.mark.parametrize("zero", [0, 8, 15])
def test_any_code_may_be_zero(ordered: GPU, zero: int) -> None:
    check(ordered, 128, 16, 3, scheme=Scheme(4, "float16", group=32, zero=zero), bias="float32")


@pytest.mark.slow
def test_every_access_is_checked(preload: str) -> None:
    """No races, and nothing out of bounds."""
    with GPU(preload, GPU_EMULATOR_CHECK="1", GPU_EMULATOR_ORDER="random") as gpu:
        check(gpu, 1088, 40, 1, single=True)
        check(gpu, 1088, 40, 11, bias="float16")


@pytest.mark.slow
def test_the_weight_is_read_once(preload: str, tmp_path: Path) -> None:
    """In whole sectors, and x once for each 16 outputs."""
    columns, rows, trace = 1024, 48, tmp_path / "trace"
    variables = {"GPU_EMULATOR_CHECK": "1", "GPU_EMULATOR_TRACE": str(trace)}
    with GPU(preload, **variables) as gpu:
        check(gpu, columns, rows, 1, single=True)
    (launch,) = map(json.loads, trace.read_text().splitlines())
    weight, x = rows * columns // 2 + rows * columns // 32 * 2, columns * 2
    assert launch["read_by_blocks"] == weight + rows // 16 * x
    assert launch["read_once"] == weight + x


@pytest.mark.parametrize(
    ("columns", "scheme", "dtype"),
    [
        (96, Q4, "float16"),
        (128, Q4, "float32"),
        (128, Scheme(4, "float32", group=32, zero=7), "float16"),
        (128, Scheme(4, "float16", group=32, zero=7, layout="columns"), "float16"),
        (128, Scheme(4, "float16", group=32), "float16"),
        (128, Scheme(4, "float16", group=64, zero=7), "float16"),
        (128, Scheme(3, "float16", group=40, zero=3), "float16"),
        (128, Scheme(16, "float16"), "float16"),
    ],
)
def test_other_kernels_take_the_rest(columns: int, scheme: Scheme, dtype: str) -> None:
    product = Product(weight_of(scheme, columns), 16, dtype, "float16")
    assert linear.gemv(product, CAPABILITIES) is other.gemv(product, CAPABILITIES)
    assert linear.matmul(product, CAPABILITIES) is many.matmul(product, CAPABILITIES)


def test_an_older_gpu_has_the_shared_kernels() -> None:
    older = capabilities_of(TARGET | {"arch": "sm_75"})
    product = Product(weight_of(Q4, 128), 16, "float16", "float16")
    assert linear.gemv(product, older) is shared_gemv(product, older)
