"""Products of many tokens on tensor cores, on the emulated GPU, against NumPy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlc_llm_cuda.codegen import capabilities_of
from mlc_llm_cuda.kernels import gemv, linear, matmul
from mlc_llm_cuda.kernels.matmul import Tile, multiply_tiles, tiles

from mlc_llm.compile.gpu.kernels import launch
from mlc_llm.compile.gpu.kernels.activation import FUNCTIONS
from mlc_llm.compile.gpu.kernels.linear import Product, ProductArguments
from mlc_llm.compile.gpu.kernels.linear import matmul as shared_matmul
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.testing.gpu_kernels.linear import magnitudes, stored
from mlc_llm.testing.gpu_kernels.suite import UNIT

from .gpu import GPU
from .marks import only_in_matrix
from .target import TARGET
from .test_q4_linear import gated

CAPABILITIES = capabilities_of(TARGET)
FLOATS, Q4 = Scheme(16, "float16"), Scheme(4, "float16", group=32, zero=7)
SCHEMES = [
    Q4,
    FLOATS,
    Scheme(3, "float16", group=40, zero=3),
    Scheme(4, "float16", group=32, zero=7, layout="columns"),
    Scheme(4, "float16", group=32),
    Scheme(4, "float16", group=128),
    Scheme(5, "float16", group=32, zero=16),
    Scheme(5, "float16", group=32),
    Scheme(6, "float16", group=16, zero=40, layout="columns"),
    Scheme(8, "float16", group=16, zero=127),
    Scheme(8, "float16", group=32, zero=128),
    Scheme(8, "float16", group=64, layout="columns"),
]
SMALL, LARGE = 0, 1


def compute(
    gpu: GPU,
    columns: int,
    rows: int,
    tokens: int,
    *,
    scheme: Scheme = Q4,
    which: int | None = None,
    known: bool = True,
    single: bool = False,
    **more: Any,
) -> np.ndarray:
    """The result, which is as exact as `matmul.py` says; scales are from 2^-14 to 16, a few are 0.

    Args:
        gpu: where it is computed.
        columns, rows: of the weight.
        tokens: rows of x.
        scheme: how the weight is stored.
        which: SMALL or LARGE tiles; None for those that the kernel chooses.
        known: whether the kernel knows the number of rows.
        single: whether it is the kernel for one token, which rounds no weight.
        more: of the :class:`Product`.
    """
    outputs = rows // 2 if more.get("gate") else rows
    kind = {"dtype": "float16", "out_dtype": "float32", **more}
    product = Product(weight_of(scheme, columns), outputs if known else None, **kind)
    rng = np.random.default_rng(0)
    tensors, values = stored(rng, rows, columns, scheme)
    if not scheme.is_float:
        values = spread(rng, tensors, values, scheme)
    x = rng.normal(0.0, 0.05, (160, columns))[:tokens].astype("float16")
    b = rng.standard_normal(rows).astype(product.bias or "float32") * (product.bias is not None)
    r = rng.standard_normal((tokens, outputs)).astype(product.out_dtype) * product.residual
    given = [x, *tensors, *[b][: product.bias is not None], *[r][: product.residual]]
    y = np.full((tokens, outputs), np.nan, product.out_dtype)
    kernel = gemv.gemv(product, CAPABILITIES) if single else made(product, which)
    gpu.run_kernel(kernel, *given, y)

    exact = x.astype(float) @ values.T + b
    terms = np.abs(x.astype(float)) @ magnitudes(tensors, values, scheme).T
    error = (columns + 2) * UNIT * (terms + np.abs(b))
    if not scheme.is_float and not single:
        error += 2.0**-11 * np.abs(x.astype(float)) @ np.abs(values).T  # of a weight's rounding
    if product.gate is not None:
        exact, error = gated(product.gate, exact, error)
    exact += r
    error += 4 * UNIT * (np.abs(exact) + np.abs(r))
    if y.dtype == "float16":
        error += np.maximum(np.abs(exact) * np.finfo(y.dtype).eps, 2.0**-24)
    assert (np.abs(y - exact) <= error).all()
    return y


def spread(
    rng: np.random.Generator, tensors: list[np.ndarray], values: np.ndarray, scheme: Scheme
) -> np.ndarray:
    """Multiplies groups with powers of two, or 0; returns the values."""
    by_rows = [t if scheme.layout == "rows" else t.T for t in tensors if t.dtype == "float16"]
    factors = np.float16(2.0) ** rng.integers(-13, 4, by_rows[0].shape)
    factors *= rng.random(factors.shape) < 0.9
    for tensor in by_rows:
        tensor *= factors
    return values * np.repeat(factors.astype(float), scheme.group, 1)[:, : values.shape[1]]


def made(product: Product, which: int | None) -> Any:
    """The kernel, or a part of it: that for one of the two tiles."""
    if which is None:
        return matmul.matmul(product, CAPABILITIES)
    assert matmul.is_covered(product, CAPABILITIES)
    with launch.kernel("matmul") as built:
        m, n = launch.size(), launch.size(product.outputs)
        given = ProductArguments.declare(product, m, n)
        multiply_tiles(tiles(product.weight)[which], given, m, n)
    return built.get()


@pytest.fixture(params=["forward", "reverse"])
def ordered(gpu: GPU, request: pytest.FixtureRequest) -> Iterator[GPU]:
    """The GPU, whose threads and blocks run in one order and in the other."""
    gpu.set("ORDER", request.param)
    yield gpu
    gpu.set("ORDER", None)


@pytest.mark.parametrize("which", [SMALL, LARGE])
def test_tiles_that_are_not_filled(ordered: GPU, which: int) -> None:
    """A few tokens and outputs in the last tiles, and columns that end within a step."""
    compute(ordered, 168, 136, 70 + 60 * which, which=which, bias="float16", out_dtype="float16")


@pytest.mark.parametrize("which", [SMALL, pytest.param(LARGE, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "scheme", [pytest.param(s, marks=[pytest.mark.slow] * (i > 3)) for i, s in enumerate(SCHEMES)]
)
def test_every_scheme(gpu: GPU, scheme: Scheme, which: int) -> None:
    """A number of groups that is odd, and, beyond it, codes that stand for nothing."""
    compute(gpu, 8 + 4 * max(scheme.group, 8), 72, 17, scheme=scheme, which=which)


@pytest.mark.cuda_matrix
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("which", [SMALL, LARGE])
def test_every_scheme_beyond_all_ends(ordered: GPU, scheme: Scheme, which: int) -> None:
    """Also with gates, whose two halves of the weight end within a tile."""
    columns = max(scheme.group, 32) * 5 + 8
    compute(ordered, columns, 136, 130, scheme=scheme, which=which)
    compute(ordered, 2 * columns - 16, 144, 33, scheme=scheme, which=which, gate="silu")


@pytest.mark.slow
@pytest.mark.parametrize("which", [SMALL, LARGE])
@pytest.mark.parametrize("columns", [8, 160, *only_in_matrix([32, 64, 72, 96, 128, 512])])
def test_columns_of_every_kind(ordered: GPU, columns: int, which: int) -> None:
    """Fewer steps than stages, and more."""
    for scheme in (Q4, FLOATS):
        compute(ordered, columns, 40, 20, scheme=scheme, which=which)


@pytest.mark.slow
@pytest.mark.parametrize("which", [SMALL, LARGE])
@pytest.mark.parametrize("out", ["float16", "float32"])
@pytest.mark.parametrize(
    "size", [(1, 1), (127, 130), *only_in_matrix([(64, 64), (65, 72), (17, 5)])]
)
def test_tokens_and_outputs_of_every_number(
    ordered: GPU, size: tuple[int, int], out: str, which: int
) -> None:
    tokens, rows = size
    for known in (False, True):
        compute(
            ordered, 64, rows, tokens, out_dtype=out, known=known, which=which, bias=out,
            residual=True,
        )  # fmt: skip


@pytest.mark.parametrize("out", ["float16", "float32"])
def test_what_is_folded_into_it(gpu: GPU, out: str) -> None:
    compute(gpu, 64, 144, 20, which=SMALL, gate="silu", bias="float16", out_dtype=out)
    compute(gpu, 64, 72, 20, which=SMALL, residual=True, out_dtype=out)


@pytest.mark.cuda_matrix
@pytest.mark.parametrize("gate", FUNCTIONS)
def test_gates_of_every_kind(ordered: GPU, gate: str) -> None:
    compute(ordered, 64, 140, 20, which=SMALL, gate=gate, residual=True, bias="float32")
    compute(ordered, 64, 280, 20, which=LARGE, gate=gate, out_dtype="float16")


def test_an_output_does_not_depend_on_its_tile(gpu: GPU) -> None:
    """Nor on how many tokens there are, to the last bit."""
    small = compute(gpu, 160, 72, 100, which=SMALL)
    np.testing.assert_array_equal(compute(gpu, 160, 72, 100, which=LARGE), small)
    np.testing.assert_array_equal(compute(gpu, 160, 72, 3, which=SMALL), small[:3])


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [*SCHEMES[:3], *only_in_matrix(SCHEMES[3:])], ids=str)
def test_every_access_is_checked(preload: str, scheme: Scheme) -> None:
    """No races, and nothing out of bounds."""
    columns = 3 * max(scheme.group, 32) + 8
    with GPU(preload, GPU_EMULATOR_CHECK="1", GPU_EMULATOR_ORDER="random") as gpu:
        for which in (SMALL, LARGE):
            compute(gpu, columns, 72, 70, scheme=scheme, which=which, residual=True)
            compute(gpu, columns, 144, 20, scheme=scheme, which=which, gate="silu", bias="float16")


@pytest.mark.slow
def test_a_tile_reads_its_weights_once(preload: str, tmp_path: Path) -> None:
    """In whole sectors; and the inputs once for each row of tiles."""
    columns, rows, tokens, trace = 256, 256, 256, tmp_path / "trace"
    variables = {"GPU_EMULATOR_CHECK": "1", "GPU_EMULATOR_TRACE": str(trace)}
    with GPU(preload, **variables) as gpu:
        compute(gpu, columns, rows, tokens // 2, which=LARGE)
        compute(gpu, columns, rows, tokens // 2, which=SMALL)
    large, small = map(json.loads, trace.read_text().splitlines())
    weight, x = rows * columns // 2 + rows * columns // 32 * 2, tokens // 2 * columns * 2
    assert large["read_by_blocks"] == weight + 2 * x
    assert small["read_by_blocks"] == 2 * weight + 4 * x
    assert large["read_once"] == small["read_once"] == weight + x


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tokens", "rows", "tile"), [(64, 12288, SMALL), (65, 12280, LARGE), (65, 12160, SMALL)]
)
def test_large_tiles_are_for_much_work(
    preload: str, tmp_path: Path, tokens: int, rows: int, tile: int
) -> None:
    trace = tmp_path / "trace"
    with GPU(preload, GPU_EMULATOR_TRACE=str(trace)) as gpu:
        compute(gpu, 32, rows, tokens)
    (launched,) = map(json.loads, trace.read_text().splitlines())
    sides = 64 if tile == SMALL else 128
    assert launched["grid"][:2] == [-(-tokens // sides), -(-rows // sides)]


@pytest.mark.parametrize(
    ("columns", "scheme", "dtype"),
    [
        (60, FLOATS, "float16"),
        (64, Scheme(32, "float32"), "float32"),
        (64, Q4, "float32"),
        (64, Scheme(4, "float32", group=32, zero=7), "float16"),
        (64, Scheme(4, "float16", group=24, zero=7), "float16"),
        (64, Scheme(2, "float16", group=32, zero=1), "float16"),
        (64, Scheme(7, "float16", group=32, zero=1), "float16"),
    ],
)
def test_the_shared_kernels_take_the_rest(columns: int, scheme: Scheme, dtype: str) -> None:
    product = Product(weight_of(scheme, columns), 16, dtype, "float16")
    assert linear.matmul(product, CAPABILITIES) is shared_matmul(product, CAPABILITIES)


def test_transposed_weights_are_in_whole_pieces() -> None:
    weight = weight_of(Scheme(4, "float16", group=32, zero=7, layout="columns"), 64)
    for outputs in (None, 12):
        product = Product(weight, outputs, "float16", "float16")
        assert linear.matmul(product, CAPABILITIES) is shared_matmul(product, CAPABILITIES)


def test_an_older_gpu_has_the_shared_kernel() -> None:
    older = capabilities_of(TARGET | {"arch": "sm_75"})
    product = Product(weight_of(FLOATS, 128), 16, "float16", "float16")
    assert linear.matmul(product, older) is shared_matmul(product, older)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_tiles_fit_into_every_gpus_memory(scheme: Scheme) -> None:
    for tile in tiles(weight_of(scheme, 4096)):
        assert isinstance(tile, Tile)
        assert tile.stages >= 2
        assert tile.bytes(weight_of(scheme, 4096)) <= matmul.SHARED_MEMORY
