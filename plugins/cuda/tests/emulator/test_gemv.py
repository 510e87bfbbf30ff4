"""Products of one token, on the emulated GPU, against NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlc_llm_cuda.kernels import gemv, linear

from mlc_llm.compile.gpu.kernels.activation import FUNCTIONS
from mlc_llm.compile.gpu.kernels.linear import Product
from mlc_llm.compile.gpu.kernels.linear import gemv as shared_gemv
from mlc_llm.compile.gpu.kernels.weight import weight_of
from mlc_llm.plugin.scheme import Scheme

from .gpu import GPU
from .marks import only_in_matrix
from .test_matmul import CAPABILITIES, FLOATS, SCHEMES, compute, ordered  # noqa: F401

BY_ROWS = [scheme for scheme in SCHEMES if scheme.layout == "rows"]
Q8 = Scheme(8, "float16", group=32, zero=127)


@pytest.mark.parametrize(
    "scheme", [pytest.param(s, marks=[pytest.mark.slow] * (i > 3)) for i, s in enumerate(BY_ROWS)]
)
def test_every_scheme(gpu: GPU, scheme: Scheme) -> None:
    """A number of groups that is odd, and, beyond it, codes that stand for nothing."""
    compute(gpu, 8 + 4 * max(scheme.group, 64), 35, 1, scheme=scheme, single=True)


@pytest.mark.cuda_matrix
@pytest.mark.parametrize("scheme", BY_ROWS, ids=str)
@pytest.mark.parametrize("columns", [8, 256, 1024, 1096, 4096])
def test_columns_of_every_kind(ordered: GPU, scheme: Scheme, columns: int) -> None:  # noqa: F811
    compute(ordered, columns, 18, 1, scheme=scheme, single=True, out_dtype="float16")


def test_what_is_folded_into_it(gpu: GPU) -> None:
    more = {"single": True, "bias": "float16", "residual": True}
    compute(gpu, 256, 38, 1, scheme=Q8, gate="silu", **more)
    compute(gpu, 256, 19, 1, scheme=FLOATS, known=False, out_dtype="float16", **more)


@pytest.mark.slow
@pytest.mark.parametrize("gate", FUNCTIONS)
def test_gates_of_every_kind(ordered: GPU, gate: str) -> None:  # noqa: F811
    compute(ordered, 128, 34, 1, scheme=Q8, single=True, gate=gate)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", [*BY_ROWS[:3], *only_in_matrix(BY_ROWS[3:])], ids=str)
def test_every_access_is_checked(preload: str, scheme: Scheme) -> None:
    """No races, and nothing out of bounds."""
    with GPU(preload, GPU_EMULATOR_CHECK="1", GPU_EMULATOR_ORDER="random") as gpu:
        compute(gpu, 5 * max(scheme.group, 32) + 8, 37, 1, scheme=scheme, single=True)


@pytest.mark.slow
def test_the_weight_is_read_once(preload: str, tmp_path: Path) -> None:
    """In whole sectors, and x once for each block."""
    columns, rows, trace = 1024, 48, tmp_path / "trace"
    variables = {"GPU_EMULATOR_CHECK": "1", "GPU_EMULATOR_TRACE": str(trace)}
    with GPU(preload, **variables) as gpu:
        compute(gpu, columns, rows, 1, scheme=Q8, single=True)
    (launched,) = map(json.loads, trace.read_text().splitlines())
    weight, x = rows * columns + rows * columns // 32 * 2, columns * 2
    assert launched["read_by_blocks"] == weight + rows // 16 * x
    assert launched["read_once"] == weight + x


@pytest.mark.parametrize(
    "scheme",
    [Scheme(4, "float16", group=32, layout="columns"), Scheme(4, "float32", group=32, zero=7)],
)
def test_the_shared_kernel_takes_the_rest(scheme: Scheme) -> None:
    product = Product(weight_of(scheme, 64), 16, "float16", "float16")
    assert linear.gemv(product, CAPABILITIES) is shared_gemv(product, CAPABILITIES)
    covered = Product(weight_of(Q8, 64), 16, "float16", "float16")
    assert linear.gemv(covered, CAPABILITIES) is gemv.gemv(covered, CAPABILITIES)
