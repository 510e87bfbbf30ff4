"""Functions of plain Relax operators, compiled as those of a model are, against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, tirx, topi
from tvm.relax import op
from tvm.script import tirx as T

from mlc_llm.compile.kernel_pipeline import compile_kernels, kernel_pipeline
from mlc_llm.compile.pipeline import pipeline
from mlc_llm.device.cpu.codegen import CPUCodegen
from mlc_llm.device.cpu.features import host_target
from mlc_llm.device.cpu.schedule import ScheduleRest

LANES = 16


def _traced(
    build: Callable[..., relax.Expr], shapes: list[tuple[int | str, ...]], dtypes: list[str]
) -> tvm.IRModule:
    """A module of one function; the size "n" is symbolic."""
    builder, n = relax.BlockBuilder(), tirx.Var("n", "int64")
    arguments = [
        relax.Var(f"x{i}", relax.TensorType([n if size == "n" else size for size in shape], dtype))
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True))
    ]
    with builder.function("main", arguments):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(build(builder, *arguments)))
        builder.emit_func_output(result)
    return builder.get()


def _compiled(module: tvm.IRModule) -> Callable[..., Any]:
    target = tvm.target.Target(dict(host_target()))
    built = relax.build(
        module,
        target,
        relax_pipeline=pipeline(CPUCodegen(host_target(), {})),
        tir_pipeline=kernel_pipeline(target),
    )
    return relax.VirtualMachine(built, tvm.cpu())["main"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + 1e-5
    ) * weight + bias


def erf(x):
    return np.vectorize(math.erf, otypes=["float64"])(x)


@dataclass(frozen=True)
class Case:
    """A function of operators.

    Args:
        build: emits it; takes the block builder and the arguments.
        exact: computes it in NumPy, in float64.
        shapes: of the arguments; "n" stands for any number.
        dtypes: of the arguments, where they are not all float32.
    """

    build: Callable[..., relax.Expr]
    exact: Callable[..., Any]
    shapes: list[tuple[int | str, ...]]
    dtypes: list[str] | None = None


CASES = {
    "softmax": Case(lambda b, x: op.nn.softmax(x), softmax, [("n", 7)]),
    "softmax of a 4-d tensor": Case(lambda b, x: op.nn.softmax(x), softmax, [(2, "n", 3, 33)]),
    "log of a softmax": Case(
        lambda b, x: op.nn.log_softmax(x), lambda x: np.log(softmax(x)), [("n", 20)]
    ),
    "layer norm": Case(
        lambda b, x, w, c: op.nn.layer_norm(x, w, c, [-1], 1e-5),
        layer_norm,
        [("n", 3, 20), (20,), (20,)],
    ),
    "rms norm": Case(
        lambda b, x, w: op.nn.rms_norm(x, w, [-1], 1e-5),
        lambda x, w: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w,
        [("n", 3, 20), (20,)],
    ),
    "mean": Case(lambda b, x: op.mean(x, -1), lambda x: x.mean(-1), [("n", 33)]),
    "variance": Case(lambda b, x: op.variance(x, -1), lambda x: x.var(-1), [("n", 33)]),
    "mean of the first axis": Case(lambda b, x: op.mean(x, 0), lambda x: x.mean(0), [(5, "n")]),
    "sums of 16 rows": Case(lambda b, x: op.sum(x, 1), lambda x: x.sum(1), [(16, "n")]),
    "sum over tokens": Case(lambda b, x: op.sum(x, 0), lambda x: x.sum(0), [("n", 33)]),
    "sum of all": Case(lambda b, x: op.sum(x), lambda x: x.sum(), [("n", 33)]),
    "sum of a function": Case(
        lambda b, x: op.sum(op.exp(x * x), -1), lambda x: np.exp(x * x).sum(-1), [("n", 20)]
    ),
    "a number": Case(lambda b, x: op.sum(x) * relax.const(2.0), lambda x: x.sum() * 2, [(5, 3)]),
    "argmax": Case(lambda b, x: op.argmax(x, -1), lambda x: x.argmax(-1), [("n", 20)]),
    "take": Case(
        lambda b, x, i: op.take(x, i, axis=0),
        lambda x, i: x[i],
        [(5, 20), ("n",)],
        ["float32", "int32"],
    ),
    "concat, split and reshape": Case(
        lambda b, x, y: op.reshape(
            b.emit(b.emit(op.split(b.emit(op.concat([x, y], 1)), 3, 1))[1]), (-1, 5)
        ),
        lambda x, y: np.split(np.concatenate([x, y], 1), 3, 1)[1].reshape(-1, 5),
        [("n", 20), ("n", 10)],
    ),
    "both parts of a split": Case(
        lambda b, x: relax.Tuple(_halves(b, x)),
        lambda x: np.split(x, 2, 1),
        [("n", 20)],
    ),
    "transposed": Case(
        lambda b, x: op.permute_dims(x, [1, 2, 0]), lambda x: x.transpose(1, 2, 0), [("n", 3, 20)]
    ),
    "matmul": Case(lambda b, x, w: op.matmul(x, w), lambda x, w: x @ w, [("n", 20), (20, 33)]),
    "wide matmul": Case(lambda b, x, w: op.matmul(x, w), lambda x, w: x @ w, [("n", 20), (20, 48)]),
    "batched matmul": Case(
        lambda b, x, y: op.matmul(x, op.permute_dims(y, [0, 2, 1])),
        lambda x, y: x @ y.transpose(0, 2, 1),
        [(2, "n", 20), (2, "n", 20)],
    ),
    "product of functions": Case(
        lambda b, x, w: op.nn.relu(op.matmul(op.exp(x), op.permute_dims(w))),
        lambda x, w: np.maximum(np.exp(x) @ w.T, 0),
        [("n", 20), (33, 20)],
    ),
    "erf where": Case(
        lambda b, x: op.where(op.greater(x, relax.const(0.0)), op.erf(x), op.exp(x)),
        lambda x: np.where(x > 0, erf(x), np.exp(x)),
        [("n", 20)],
    ),
    "scan": Case(lambda b, x: b.emit_te(topi.cumsum, x, 1), lambda x: x.cumsum(1), [("n", 20)]),
    "sort": Case(lambda b, x: b.emit_te(topi.sort, x), lambda x: np.sort(x), [("n", 20)]),
}


def _halves(builder: relax.BlockBuilder, x: relax.Expr) -> list[relax.Expr]:
    """Both are results of one function."""
    parts = builder.emit(op.split(x, 2, 1))
    return [parts[0], parts[1]]


@pytest.mark.parametrize("name", list(CASES))
def test_computes_what_numpy_does(rng, name):
    case = CASES[name]
    dtypes = case.dtypes or ["float32"] * len(case.shapes)
    compiled = _compiled(_traced(case.build, case.shapes, dtypes))
    for n in (0, 1, 2, 33):
        shapes = [tuple(n if size == "n" else size for size in shape) for shape in case.shapes]
        given = [
            rng.standard_normal(shape).astype(dtype)
            if dtype == "float32"
            else rng.integers(0, 5, shape).astype(dtype)
            for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        result = compiled(*[tvm.runtime.tensor(array) for array in given])
        exact = case.exact(*[a.astype("float64") if a.dtype == "float32" else a for a in given])
        results, exacts = ([result], [exact]) if hasattr(result, "numpy") else (result, exact)
        for y, expected in zip(results, exacts, strict=True):
            assert y.numpy().shape == np.shape(expected)
            np.testing.assert_allclose(y.numpy(), expected, rtol=2e-5, atol=1e-5)


def _loops(name: str) -> tuple[int, int]:
    """How many parallel and how many vectorised loops the functions of a case have."""
    case = CASES[name]
    module = _traced(case.build, case.shapes, case.dtypes or ["float32"] * len(case.shapes))
    passes = [
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        ScheduleRest(LANES),
    ]
    text = tvm.ir.transform.Sequential(passes)(module).script()
    return text.count("T.parallel("), text.count("T.vectorized(")


def test_elementwise_operators_are_one_loop_nest():
    assert _loops("erf where") == (1, 1)


def test_reductions_are_parallel_over_results_and_serial_over_terms():
    """Maximum and sum; the exponential, which the sum does not compute again, and the quotient."""
    assert _loops("softmax") == (4, 2)
    assert _loops("sum of all") == (0, 0)


@pytest.mark.parametrize(
    ("name", "vectors"), [("matmul", 0), ("wide matmul", 2), ("sums of 16 rows", 0)]
)
def test_neighbouring_results_make_vectors(name, vectors):
    """48 columns, whose sums begin in vectors, too; not 33, nor what is read across the rows."""
    assert _loops(name) == (1, vectors)


@T.prim_func(s_tir=True)
def rows_doubled(x: T.Buffer((33, 20), "float32"), y: T.Buffer((33, 20), "float32")):
    """What no operator of TVM is: a loop inside a block."""
    for i in range(33):
        with T.sblock("row"):
            row = T.axis.spatial(33, i)
            for j in range(20):
                y[row, j] = x[row, j] + x[row, j]


def test_loops_inside_a_block_stay_as_they_are(rng):
    module = ScheduleRest(LANES)(tvm.IRModule({"main": rows_doubled}))
    assert "T.parallel(33)" in module.script()
    x = rng.standard_normal((33, 20)).astype("float32")
    y = tvm.runtime.tensor(np.full_like(x, np.nan))
    kernel = compile_kernels(module, tvm.target.Target(dict(host_target())))["main"]
    kernel(tvm.runtime.tensor(x), y)
    np.testing.assert_array_equal(y.numpy(), 2 * x)
